"""Write every generated page: `make pages`."""

from tests import data_dictionary
from tests.benchmarks import pages as benchmarks

GENERATED = {data_dictionary.PAGE: data_dictionary.page, benchmarks.PAGE: benchmarks.page}

if __name__ == "__main__":
    for path, page in GENERATED.items():
        path.write_text(page())

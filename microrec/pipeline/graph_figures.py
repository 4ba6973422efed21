"""What the graph jobs have measured of the graphs they wrote."""

from microrec.pipeline.night import Night

STAGE = "modality_graph"
"""Stage of the rows of `metrics`."""


def crowding(night: Night) -> dict[str, float]:
    """Return how many lists the most listed video of each modality stands in, over the mean.

    Args:
        night: says which day.

    Returns:
        By modality; nothing where no graph was measured.
    """
    if not night.exists("metrics", stage=STAGE):
        return {}
    rows = night.read("metrics", stage=STAGE).to_pylist()
    value = {(row["name"], row["metric"]): row["value"] for row in rows}
    lists = {name: n for (name, metric), n in value.items() if metric == "lists" and n}
    return {
        name: value[name, "largest_in_degree"] / (value[name, "edges"] / n)
        for name, n in lists.items()
    }

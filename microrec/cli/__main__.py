"""`python -m microrec.cli`."""

from microrec.cli.app import main

if __name__ == "__main__":
    main()

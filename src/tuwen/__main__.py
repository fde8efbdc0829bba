"""`python -m tuwen` and the `tuwen` command."""


def main() -> None:
    """Run the command line."""
    from tuwen.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

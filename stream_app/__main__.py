"""`python -m stream_app` is `shopsentry`."""

from stream_app.cli import main

if __name__ == "__main__":
    main()

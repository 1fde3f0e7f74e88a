"""`python -m rnn_parity NAME` is `rnn-parity NAME`."""

from rnn_parity.commands.cli import main

if __name__ == "__main__":
    main()

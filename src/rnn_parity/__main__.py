"""`python -m rnn_parity NAME` is `rnn-parity NAME`; in a run, its server does the work of its jobs."""

import sys

from rnn_parity.commands.job_server import end_in_server

if __name__ == "__main__":
    end_in_server(sys.argv[1:])  # before the commands are imported
    from rnn_parity.commands.cli import main

    main()

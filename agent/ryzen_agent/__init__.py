"""The node agent: one torch-free process a node that watches torchrun's ranks and brings about the desired state.

    cli          the commands; thin
    settings     every option, with what happens when it is too low or too high
    agent        one event loop: wires the pieces below, scans up to eight times a second
    service      the life of its process: lock, signals, exit code
    places       the run directories that it serves, and why none of them is trusted
    door         the two sockets of one run directory
    local_server the rendezvous handler's and the command line's side (Unix socket in the run directory)
    upstream     the one stream to the coordinator; reconnects for ever
    spool        events kept on disk until the coordinator has acknowledged them
    nudge        datagrams from ranks
    jobs         the table of all jobs on this node
    job          one torchrun job on this node: its handler, its torchrun, its ranks
    desire       what the coordinator desires, kept as a level
    decision     PURE: what must be killed now, from what is seen and what is desired
    executor     kills exactly what was decided, after checking who it is
    ranks        which processes are ranks of which torchrun
    leftovers    what a dead rank left behind in its process group
    beats        beat pages: progress, failure stamps, longest silences
    process      one process by pidfd; exit codes of processes that are not our children
    procfs       parsers of /proc
    adoption     jobs that were there before this agent, and jobs without our handler
    record       what a restarted agent must know of the ranks that it has seen
    report       a job as the coordinator's message
    status       `ryzen-agent status`
    supervisor   `ryzen-agent run`: agent and torchrun as two children

The agent must never be the reason why training stops: it holds no pipe, no lock and no parent-child relation
to any rank, and kills only on evidence (see `decision`).
"""

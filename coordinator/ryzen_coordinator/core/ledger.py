"""Time accounting: every second of every GPU that a job holds is in exactly one state.

    productive   the world trains                      detection  from the fault to the announcement of a new generation
    checkpoint   the share of a step that the script   recovery   from there to the first new step
                 spends in its section "checkpoint"    waiting    no world: nodes are missing, the first start, the end
    lost_steps   was productive, until the job         idle       held and not part of it: a spare, an evicted node
                 resumed from a step before

It is kept in intervals: at each change of a job's phase, world or plan the time since the last one is booked, and while
a job trains every second. Nothing is done at a beat. What a state was in truth is often known later (when a rank
was struck, to which step the job went back): then the book's clock is turned back (book.py).

A stall is detection from the last advance of any rank, whatever ends it; if the ranks advance again by themselves it
was none, and is productive. A node counts from its torchrun's first word until it is gone, silent, or a lost one that
no world waits for. What a restarted coordinator has not seen counts as it was before, if it finds the job as it left
it; else it is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ryzen_coordinator.core.book import STATES, Book, State
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import OVER, RECOVERING
from ryzen_coordinator.core.state import Cluster, Incident, Job

SAVING = frozenset({"checkpoint", "save"})
"""Names of sections in which a script saves."""

LOOK_S = 1.0
"""How often a training job's time is booked with the step that it is in, and how often it is looked whether those
outside the world are still there. As often as nodes report: lower gains nothing; higher, it is known less exactly how
long the steps took that are lost."""

Situation: TypeAlias = tuple[str, int, tuple[str, ...]]

_TRAINS = frozenset({"running", "stalled"})
_OF_AN_INCIDENT = frozenset({"detection", "recovery", "waiting"})


@dataclass(frozen=True, slots=True)
class Times:
    """Where a job's time has gone. `gpu_s`: GPU-seconds by state, in the order of STATES; `gpus`: held now.

    `wall_s`: how long the job has held nodes; `productive_s`: how long of it its world has trained to lasting effect.
    """

    gpus: int
    wall_s: float
    productive_s: float
    gpu_s: dict[str, float]

    @property
    def ettr(self) -> float | None:
        """Effective training time ratio, 0 to 1: productive wall time over wall time (Kokolis et al., arXiv 2410.21680,
        section 2.6); None before there is any."""
        return self.productive_s / self.wall_s if self.wall_s else None


def of_job(job: Job, now_s: float) -> Times:
    """The account of a job until now. It changes nothing, and costs some microseconds."""
    book, gpus = job.book, 0
    gpu_s: dict[str, float] = dict.fromkeys(STATES, 0.0)
    pending_s = _pending_s(book, now_s)
    trains = False
    for account in book.accounts:
        for state, seconds in account.seconds().items():
            gpu_s[state] += seconds * account.weight
        if account.state:
            gpu_s[account.state] += pending_s * account.weight
            gpus += account.weight
            trains = trains or account.state == "productive"
    wall_s = book.wall_s + (pending_s if gpus else 0.0)
    return Times(gpus, wall_s, book.clock_s + (pending_s if trains else 0.0), gpu_s)


def of_nodes(job: Job, now_s: float) -> dict[str, tuple[int, dict[str, float]]]:
    """By node: its GPUs, and their GPU-seconds by state. A pass over the job's nodes: for who asks, not for a tick."""
    found: dict[str, tuple[int, dict[str, float]]] = {}
    pending_s = _pending_s(job.book, now_s)
    for account in job.book.accounts:
        seconds = account.seconds()
        if account.state:
            seconds[account.state] += pending_s
        for node in account.nodes:
            before = found.get(node, (0, {}))[1]  # it may have had another number of GPUs before
            each = {state: before.get(state, 0.0) + spent * account.gpus for state, spent in seconds.items()}
            found[node] = (account.gpus, each)
    return dict(sorted(found.items()))


def look(cluster: Cluster, job: Job, member: Member | None = None) -> None:
    """Book what has passed if anything about the job is another than before; `member` has just reported."""
    book, now_s = job.book, cluster.now_s
    situation = _situation(job)
    same = situation == book.situation
    if not book.heard:
        if member is None:
            return
        book.heard = True
        if not same:
            book.settled_s = now_s
    if not same:
        _change(cluster, job, situation)
        return
    book.situation = situation  # the very tuple of nodes, so that the next look need not compare them
    if member is None and now_s - book.looked_s >= LOOK_S and job.phase not in OVER:
        book.looked_s = now_s
        if len(job.members) > len(situation[2]) and _beside(cluster, job, situation[2]) != book.beside:
            _settle(cluster, job)
            _hold(cluster, job, situation)
        if job.phase == "running":
            _settle(cluster, job)
            _note_step(job)


def _pending_s(book: Book, now_s: float) -> float:
    return max(0.0, now_s - book.settled_s) if book.heard else 0.0


def _situation(job: Job) -> Situation:
    """All that the states of those at work follow from: what the job does, its generation, and who is at work."""
    world = job.world
    if job.phase in OVER or job.phase == "forming" or world is None:
        return (job.phase, 0, ())
    if job.phase not in RECOVERING:
        return (job.phase, world.generation, world.nodes)
    plan = job.plan
    wanted = plan.wanted if plan is not None else world.nodes
    enough = plan is None or len(wanted) >= job.shape.min_nodes
    return ("recovery" if enough else "short of nodes", job.generation, wanted)


def _beside(cluster: Cluster, job: Job, at_work: Iterable[str]) -> tuple[str, ...]:
    """Whom the job holds beside those at work: before the first world everybody."""
    inside = frozenset(at_work)
    return tuple(
        name
        for name, member in job.members.items()
        if name not in inside and cluster.reachable(member) and not member.torchrun_gone
    )


def _state(job: Job, phase: str) -> State:
    if phase in _TRAINS:
        return "productive" if phase == "running" else "detection"
    if phase == "recovery" or (phase == "restoring" and (job.book.started or job.book.owner is not None)):
        return "recovery"
    return "waiting"


def _hold(cluster: Cluster, job: Job, situation: Situation) -> None:
    phase, _, at_work = situation
    book = job.book
    book.situation = situation
    book.beside = _beside(cluster, job, at_work) if phase not in OVER else ()
    states: dict[str, State] = dict.fromkeys(at_work, _state(job, phase))
    for name in book.beside:
        states[name] = "waiting" if phase == "forming" and not cluster.nodes[name].barred else "idle"
    book.hold(states, {name: max(1, job.members[name].seen.shape.ranks_per_node) for name in states})


def _change(cluster: Cluster, job: Job, situation: Situation) -> None:
    book = job.book
    (was, of, _), (now, generation, _) = book.situation, situation
    _settle(cluster, job)
    if was == "stalled" and (now in {"running", "ending"} or job.exit_code == 0):
        book.give_back(book.stalled_s)  # the ranks have advanced by themselves: it was no fault
        book.stalled_s = 0.0
    if was == "running" and now == "stalled":
        _stood(cluster, job)
    if was in _TRAINS and now not in _TRAINS:
        _struck(cluster, job)
    elif book.owner is not None:
        _count_detection(cluster, job)
    elif now not in _TRAINS:
        book.owner = min(job.open, default=None)  # it was struck in the middle of a restart that nobody caused
    if now in _TRAINS and (was not in _TRAINS or of != generation):
        _resumed(cluster, job)
    if now != "stalled":
        book.stalled_s = 0.0
    if now in OVER:
        book.owner = None
    _hold(cluster, job, situation)


def _stood(cluster: Cluster, job: Job) -> None:
    """The silence before it was called a stall belongs to it."""
    book = job.book
    silent_s = min(cluster.now_s - job.table.last_advance_s(), book.clock_s - book.began_s)
    if silent_s > 0:
        book.stalled_s += silent_s
        book.rewind(book.clock_s - silent_s, "detection")


def _settle(cluster: Cluster, job: Job) -> None:
    book = job.book
    since_s = book.settled_s
    booked = book.settle(cluster.now_s)
    seconds = book.settled_s - since_s
    if book.situation[0] == "stalled":
        book.stalled_s += seconds
    elif book.situation[0] == "running" and (share := _saving(job)):
        book.rewind(book.clock_s - share * seconds, "checkpoint")
    _charge(cluster, job, {state: spent for state, spent in booked.items() if state in _OF_AN_INCIDENT})


def _saving(job: Job) -> float:
    """Share of a step's time that goes into saving, of the newest steps of the first node."""
    first = job.members.get(job.world.nodes[0]) if job.world is not None and job.world.nodes else None
    pace = first.pace if first is not None else None
    if pace is None or pace.generation != job.table.generation or not pace.step_s:
        return 0.0
    return min(1.0, sum(seconds for name, seconds in pace.sections if name in SAVING) / pace.step_s)


def _note_step(job: Job) -> None:
    step = job.table.top_step()
    if step is not None:
        job.book.note_step(step)


def _charge(cluster: Cluster, job: Job, spent: dict[str, float]) -> None:
    """Put these GPU-seconds on the incident whose recovery is under way."""
    incident = cluster.incidents.get(job.book.owner) if job.book.owner is not None else None
    if incident is None or not any(spent.values()):
        return
    for state, gpu_s in spent.items():
        incident.gpu_s[state] = incident.gpu_s.get(state, 0.0) + gpu_s
    cluster.incident_changed(incident)
    cluster.durable[("job", job.record)] = None  # the two must agree on disk


def _struck(cluster: Cluster, job: Job) -> None:
    """The world does not train any more: since when, and whose doing it is. Several incidents ride on one recovery:
    the first has it."""
    book = job.book
    book.owner = min(job.open, default=None) if job.phase not in OVER else None
    book.detected_s = book.stalled_s
    world = [each for each in book.accounts if each.state == "detection"]
    _charge(cluster, job, {"detection": book.stalled_s * sum(each.weight for each in world)})
    _count_detection(cluster, job)
    _note_step(job)


def _count_detection(cluster: Cluster, job: Job) -> None:
    """From the fault to the announcement. When it struck may be known better after a while: an exception is stamped
    before the exit is seen."""
    book = job.book
    incident = cluster.incidents.get(book.owner) if book.owner is not None else None
    more_s = _detection_s(incident) - book.detected_s if incident is not None else 0.0
    if more_s <= 0:
        return
    more_s = min(more_s, book.clock_s - book.began_s)
    book.detected_s += more_s
    _charge(cluster, job, {"detection": book.rewind(book.clock_s - more_s, "detection")})


def _detection_s(incident: Incident) -> float:
    marks = incident.marks
    return marks["announced"] - marks["fault"] if "announced" in marks else 0.0


def _resumed(cluster: Cluster, job: Job) -> None:
    """The first new step is done. What had been done beyond the step that the job began again with is lost."""
    book, table = job.book, job.table
    known = table.step >= 0
    if known.any():
        # The page's step is the one under way, and it counts those that this generation has done.
        first = int((table.step - table.steps_done)[known].min())
        _charge(cluster, job, {"lost_steps": book.resume(first)})
    book.began_s, book.started, book.owner, book.detected_s = book.clock_s, True, None, 0.0

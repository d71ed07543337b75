"""Memory: what was corrected, what was not, and whether the GPU can still put good rows in place of bad ones."""

from __future__ import annotations

from ryzen_agent.health.gpu.rules.rule import Finding, Rule, Subject

CORRECTED_MAX = 50_000_000
ROWS_MAX = 512
PAGES_MAX = 63


def ecc_uncorrected(subject: Subject) -> Finding | None:
    """uncorrected errors since the driver was loaded > 0

    gcm calls it critical; gpud none at all, for the driver remaps the row and kills who used it (its PR 108). Whether
    the GPU is fit is said by the remapped rows, the SRAM threshold and the recovery action.
    """
    count = subject.reading.ecc.uncorrected
    return Finding(f"{count} uncorrected memory errors", float(count), 0.0) if count else None


def ecc_corrected(subject: Subject) -> Finding | None:
    """corrected errors since the driver was loaded > 50,000,000

    gcm's limit; Azure's is 20,000,000 for DRAM.
    """
    count = subject.reading.ecc.corrected
    if not count or count <= CORRECTED_MAX:
        return None
    return Finding(f"{count} corrected memory errors", float(count), float(CORRECTED_MAX))


def sram_threshold(subject: Subject) -> Finding | None:
    """the driver says that the SRAM's error threshold is exceeded

    NVIDIA's workflow for Xid 48: flag set, then field diagnostics or return.
    """
    if not subject.reading.sram_threshold:
        return None
    return Finding("more uncorrected SRAM errors than NVIDIA's threshold allows")


def row_remap_pending(subject: Subject) -> Finding | None:
    """a row waits for a reset to be remapped

    NVIDIA's GPU memory error management: reset or reboot; no hurry.
    """
    rows = subject.reading.rows
    return Finding("a memory row is remapped at the next reset") if rows and rows.pending else None


def row_remap_failed(subject: Subject) -> Finding | None:
    """a row could not be remapped

    NVIDIA: return the GPU; goes before "pending".
    """
    rows = subject.reading.rows
    return Finding("a memory row could not be remapped: there is no spare left") if rows and rows.failed else None


def rows_remapped(subject: Subject) -> Finding | None:
    """rows remapped for uncorrected errors >= 512

    DCGM's health check (Azure: more than 512).
    """
    rows = subject.reading.rows
    if rows is None or rows.uncorrected < ROWS_MAX:
        return None
    return Finding(f"{rows.uncorrected} memory rows are remapped", float(rows.uncorrected), float(ROWS_MAX))


def pages_retired(subject: Subject) -> Finding | None:
    """retired pages >= 63 (NVIDIA before Ampere), or the threshold that AMD's driver states

    DCGM's health check: there is room for 64.
    """
    pages, limit = subject.reading.retired_pages, subject.reading.identity.retired_pages_max or PAGES_MAX
    if pages is None or pages < limit:
        return None
    return Finding(f"{pages} memory pages are retired", float(pages), float(limit))


def page_retirement_pending(subject: Subject) -> Finding | None:
    """a page waits for a reset to be retired (NVIDIA before Ampere, AMD)

    NVIDIA's dynamic page retirement: it is still in use until then.
    """
    return Finding("a memory page is retired at the next reset") if subject.reading.retired_pending else None


RULES = (
    Rule("gpu.ecc_uncorrected", "warning", "watch_repeat", ecc_uncorrected),
    Rule("gpu.ecc_corrected", "warning", "watch_repeat", ecc_corrected),
    Rule("gpu.sram_threshold", "critical", "drain_service", sram_threshold),
    Rule("gpu.row_remap_pending", "warning", "reset_gpu", row_remap_pending),
    Rule("gpu.row_remap_failed", "critical", "drain_service", row_remap_failed),
    Rule("gpu.rows_remapped", "critical", "drain_service", rows_remapped),
    Rule("gpu.pages_retired", "critical", "drain_service", pages_retired),
    Rule("gpu.page_retirement_pending", "warning", "reset_gpu", page_retirement_pending),
)

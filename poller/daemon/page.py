"""The page at `/`: its headline, troubles, tables and form, as one HTML document. Pure.

No script, no foreign asset, one style element whose hash the policy names: a browser that obeys
`POLICY` loads nothing else and runs nothing. All that comes from outside is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from importlib import resources
from urllib.parse import quote

from poller.daemon import chart
from poller.daemon.status import AgentStatus, KernelFacts, Status
from poller.daemon.words import NOT_KNOWN, ago, clock, lasting, many, number, seconds, text

_STYLE = (resources.files("poller.daemon") / "page.css").read_text("utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy that the page stands under."""
_SLOWEST_REFRESH_S = 60
_QUICKEST_REFRESH_S = 5

_LISTED = 20

Answer = KernelFacts | str
"""What was found of a kernel, or why nothing was."""


def render(status: Status, asked: str | None = None, answer: Answer | None = None) -> str:
    """Return the page. `asked`: the kernel id of the form; the page then does not refresh.

    `answer` is None where nothing was asked.
    """
    parts = [
        _head(status, asked is None),
        _headline(status),
        *(_trouble(status)),
        _numbers(status),
        _cycles(status),
        _look_up(asked, answer),
        _withheld(status),
        _agents(status),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _head(status: Status, refreshes: bool) -> str:
    every_s = min(max(_QUICKEST_REFRESH_S, math.ceil(status.interval_s)), _SLOWEST_REFRESH_S)
    refresh = f'<meta http-equiv="refresh" content="{every_s}">' if refreshes else ""
    # Who types an id needs a page that does not go away meanwhile.
    manner = (
        f'refreshed every {every_s} s · <a href="/?kernel=">pause</a>'
        if refreshes
        else 'paused · <a href="/">go on</a>'
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{text(_told(status)[1])} · livestat-poller</title>"
        f"<style>{_STYLE}</style></head><body>\n"
        f"<header><span>livestat-poller {text(status.version)}</span>"
        f"<span>{clock(status.now)} · {manner}</span></header>"
    )


def _told(status: Status) -> tuple[str, str]:
    """Return (how well it is, what the poller does now)."""
    if status.role == "stands by":
        fails = status.fails_since is not None
        return ("bad", "Stands by and fails") if fails else ("good", "Stands by")
    if status.publishes_since is None and status.fails_since is None:
        return "dim", "Starts"
    if status.fails_since is not None:
        return "bad", "Fails" if status.role == "does not lead" else "Leads and fails"
    if status.kernels and not any(one.written for one in status.cycles):
        return "warn", "Leads and writes no key"
    return "good", "Leads and publishes"


def _headline(status: Status) -> str:
    level, words = _told(status)
    return f'<h1 class="{level}">{words}</h1><p>{_since(status)}</p>'


def _since(status: Status) -> str:
    now = status.now
    ready = "" if not status.why_not_ready else f" Not ready: {text(status.why_not_ready)}."
    if status.role == "stands by" and status.fails_since is None:
        return f"{text(status.holder or 'Another poller')} writes the keys."
    if status.publishes_since is not None:
        since = status.publishes_since
        return f"For {lasting(now - since)}, since {clock(since)}.{ready}"
    if status.fails_since is not None:
        last = status.last_success
        good = "no good cycle yet" if last is None else f"the last good cycle was {ago(last, now)}"
        since = status.fails_since
        return f"For {lasting(now - since)}, since {clock(since)}; {good}.{ready}"
    return f"Started {ago(status.started, now)}, no cycle has ended yet."


def _trouble(status: Status) -> Iterable[str]:
    for one in status.troubles:
        advice = f"; {text(one.advice)}" if one.advice else ""
        yield (
            f'<div class="trouble"><p><strong>{text(one.subject)}</strong>: {text(one.detail)}'
            f'{advice}</p><p class="dim">for {lasting(status.now - one.since)}, '
            f"seen {many(one.count, 'time')}</p></div>"
        )


def _numbers(status: Status) -> str:
    if status.role == "stands by":
        return ""
    facts = [
        ("active kernels", number(status.kernels), "", ""),
        ("written", number(status.written), "", ""),
        ("withheld", number(sum(status.withheld.values())), _listed(status.withheld.items()), ""),
        ("last good cycle", ago(status.last_success, status.now), "", ""),
    ]
    if status.failed_keys:
        failed = status.failed_keys
        facts.append(("not written", number(sum(failed.values())), _listed(failed.items()), "bad"))
    if status.rival_keys:
        told = "written by somebody else too"
        facts.append(("rival keys", number(status.rival_keys), told, "warn"))
    return f"<dl>{''.join(_fact(*one) for one in facts)}</dl>"


def _fact(name: str, value: str, more: str, level: str) -> str:
    small = f"<small>{more}</small>" if more else ""
    mark = f' class="{level}"' if level else ""
    return f"<div><dt>{name}</dt><dd{mark}>{value}{small}</dd></div>"


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{number(count)} {text(why)}" for why, count in counts if count)


def _cycles(status: Status) -> str:
    if not status.cycles:
        return ""
    records = status.cycles
    marks = [
        f'<li><svg viewBox="0 0 1 1" aria-hidden="true"><rect class="p-{part}" width="1"'
        f' height="1"/></svg>{part} {seconds(spent)}</li>'
        for part, spent in chart.typical(records).items()
    ]
    return (
        f"<h2>Last cycles</h2><p>{text(chart.told(records))}; one every "
        f"{status.interval_s:g} s. The list has the good ones' medians by part.</p>"
        f"{chart.svg(records)}"
        f'<p class="ends"><span>earlier</span><span>now</span></p>'
        f'<ul class="legend">{"".join(marks)}</ul>'
    )


def _look_up(asked: str | None, answer: Answer | None) -> str:
    form = (
        '<h2>One kernel</h2><form method="get" action="/"><label for="kernel">Kernel id</label>'
        f'<input id="kernel" name="kernel" value="{text(asked or "")}" maxlength="64"'
        ' autocomplete="off" spellcheck="false"><button>Show</button></form>'
    )
    if answer is None:
        return form
    if isinstance(answer, str):
        return f'{form}<p class="warn">{text(answer)}</p>'
    return form + _kernel(answer)


def _kernel(facts: KernelFacts) -> str:
    lines = "".join(f"<p>{text(line)}</p>" for line in facts.lines)
    rows = []
    before = None
    for metric, field, left, right in facts.rows:
        if metric != before:
            rows.append(f'<tr><th colspan="3">{text(metric)}</th></tr>')
            before = metric
        mark = "" if left == right else ' class="differs"'
        rows.append(
            f'<tr{mark}><td>{text(field)}</td><td class="n">{text(left)}</td>'
            f'<td class="n">{text(right)}</td></tr>'
        )
    heads = '<th>metric</th><th class="n">Prometheus</th><th class="n">key</th>'
    return f"<p><strong>{text(facts.kernel)}</strong></p>{lines}" + _table("rows", heads, rows)


def _table(kind: str, heads: str, rows: Sequence[str]) -> str:
    if not rows:
        return ""
    body = "".join(rows)
    return f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _withheld(status: Status) -> str:
    rows = [
        f'<tr><th><a href="/?kernel={quote(one.kernel, safe="")}">{text(one.kernel)}</a></th>'
        f'<td data-label="why">{text(one.reason)}</td>'
        f'<td data-label="since">{ago(one.since, status.now)}</td></tr>'
        for one in status.withheld_kernels[:_LISTED]
    ]
    if not rows:
        return ""
    heads = "<th>kernel</th><th>why</th><th>since</th>"
    left = sum(status.withheld.values()) - len(rows)
    more = f'<p class="dim">and {number(left)} more; /api/status names some</p>' if left > 0 else ""
    return f"<h2>Withheld for longer</h2>{_table('wide', heads, rows)}{more}"


def _agents(status: Status) -> str:
    if not status.agents:
        return ""
    heads = (
        '<th>agent</th><th>state</th><th class="n">kernels</th><th class="n">rounds</th>'
        '<th class="n">interval</th><th class="n">last measured</th><th>still writes itself</th>'
    )
    ordered = sorted(status.agents, key=_worst_first)
    rows = [_agent(one, status.now) for one in ordered]
    return f"<h2>Agents ({number(len(rows))})</h2>{_table('wide', heads, rows)}"


def _worst_first(one: AgentStatus) -> tuple[bool, bool, bool, str]:
    return not one.silent, not one.stalled, not one.writes, one.name


def _agent(one: AgentStatus, now: float) -> str:
    trouble = "down" if one.silent else "stalled" if one.stalled else ""
    state = f'<span class="bad">{trouble}</span>' if trouble else "measures"
    interval = NOT_KNOWN if one.interval_s is None else f"{one.interval_s:.1f} s"
    writes = NOT_KNOWN if one.writes is None else "yes" if one.writes else "no"
    return (
        f'<tr><th>{text(one.name)}</th><td data-label="state">{state}</td>'
        f'<td class="n" data-label="kernels">{number(one.kernels)}</td>'
        f'<td class="n" data-label="rounds">{number(one.rounds)}</td>'
        f'<td class="n" data-label="interval">{interval}</td>'
        f'<td class="n" data-label="last measured">{ago(one.measured, now)}</td>'
        f'<td data-label="still writes itself">{writes}</td></tr>'
    )

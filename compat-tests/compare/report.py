"""Tables and plots of what was measured."""

import html
from statistics import median

BAR, GAP, LEFT, WIDTH = 18, 6, 260, 760
OURS = "StreamHouse, folder"

# Which measures of which rows are drawn.
PLOTTED = {
    "tuned Java clients": ["produced, MiB/s", "consumed, MiB/s", "CPU-s per GiB in + out", "peak memory, MiB"],
    "1 default librdkafka producer": ["ack p50, ms", "ack p99, ms"],
    "1,000 producers": ["ack p99, ms"],
}


def plots(heading):
    """(measure, file below docs) of a row's plots."""
    measures = [measure for word, drawn in PLOTTED.items() if word in heading for measure in drawn]
    return [(measure, f"plots/{slug(heading)}-{slug(measure)}.svg") for measure in measures]


def slug(words):
    return "-".join(filter(None, "".join(c if c.isalnum() else "-" for c in words.lower()).split("-")))


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def by_round(found, server, measure):
    """Round -> value."""
    mine = [one for one in found if one["server"] == server]
    return {one["round"]: one["measured"][measure] for one in mine if measure in one.get("measured", {})}


def cell(found, server, measure):
    """Median, and the spread where there is one."""
    values = list(by_round(found, server, measure).values())
    if not values:
        failed = any("failed" in one for one in found if one["server"] == server)
        return "failed" if failed else "–"
    low, high = min(values), max(values)
    spread = f" ({number(low)}–{number(high)})" if number(low) != number(high) else ""
    return number(median(values)) + spread


def ratio(found, ours, theirs, measure):
    """Median of the ratios round by round: what the machine did in a round, it did to both."""
    of_ours, of_theirs = by_round(found, ours, measure), by_round(found, theirs, measure)
    pairs = [value / of_theirs[round] for round, value in of_ours.items() if of_theirs.get(round)]
    return f"{median(pairs):.2f}" if pairs else "–"


def table(found, reference):
    """One Markdown table: a line for each measure, a column for each server, and our folder's ratio to the reference."""
    names = list(dict.fromkeys(one["server"] for one in found))
    compared = {OURS, reference} <= set(names)
    head = ["measure", *names] + ([f"{OURS} / {reference}"] if compared else [])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    measures = list(dict.fromkeys(m for one in found for m in one.get("measured", {})))
    for measure in measures or ["everything"]:
        row = [measure, *(cell(found, name, measure) for name in names)]
        lines.append("| " + " | ".join(row + ([ratio(found, OURS, reference, measure)] if compared else [])) + " |")
    return "\n".join(lines)


def plot(title, found, measure):
    """A bar for each server, with the spread as a line. An SVG for light and dark pages."""
    names = list(dict.fromkeys(one["server"] for one in found))
    values = [(name, list(by_round(found, name, measure).values())) for name in names]
    top = max((max(v) for _, v in values if v), default=0) or 1
    height = 34 + len(values) * (BAR + GAP)
    text = 'font-family="system-ui, sans-serif" font-size="12" fill="#777"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">']
    parts.append(f"<title>{html.escape(title)}</title>")
    parts.append(f'<text x="0" y="16" {text} font-weight="bold">{html.escape(title)}</text>')
    scale = (WIDTH - LEFT - 80) / top
    for i, (name, rounds) in enumerate(values):
        y = 28 + i * (BAR + GAP)
        colour = "#2f7fd1" if name.startswith("StreamHouse") else "#9a9a9a"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" {text}>{html.escape(name)}</text>')
        if not rounds:
            continue
        middle, low, high = median(rounds) * scale, min(rounds) * scale, max(rounds) * scale
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{middle:.1f}" height="{BAR}" fill="{colour}"/>')
        line = y + BAR / 2
        parts.append(f'<path d="M{LEFT + low:.1f} {line}H{LEFT + high:.1f}" stroke="#d9822b" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + high + 6:.1f}" y="{y + 13}" {text}>{number(median(rounds))}</text>')
    return "\n".join([*parts, "</svg>", ""])

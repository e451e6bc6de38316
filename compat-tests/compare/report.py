"""Tables and plots of what was measured."""

import html
from statistics import median

BAR, GAP, LEFT, WIDTH = 18, 6, 260, 760


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell(values):
    """Median, and the spread where there is one."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    spread = f" ({number(low)}–{number(high)})" if len(values) > 1 and number(low) != number(high) else ""
    return number(median(values)) + spread


def ratio(ours, theirs):
    """Median of the ratios round by round: what the machine did in a round, it did to both."""
    pairs = [a / b for a, b in zip(ours, theirs) if b]
    return f"{median(pairs):.2f}" if pairs else "–"


def table(results, names, reference):
    """One Markdown table: a line for each measure, a column for each server, and our ratio to the reference."""
    ours = next(name for name in names if name.startswith("StreamHouse"))
    compared = reference in names and ours != reference
    head = ["measure", *names] + ([f"{ours} / {reference}"] if compared else [])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    measures = list(dict.fromkeys(m for name in names for m in results[name]))
    for measure in measures:
        of = lambda name: results[name].get(measure, [])
        row = [measure, *(cell(of(name)) for name in names)]
        lines.append("| " + " | ".join(row + ([ratio(of(ours), of(reference))] if compared else [])) + " |")
    return "\n".join(lines)


def plot(title, values):
    """A bar for each server (name, values of the rounds), with the spread as a line. An SVG for light and dark pages."""
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

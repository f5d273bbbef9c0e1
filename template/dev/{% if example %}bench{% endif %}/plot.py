"""A plot of the ratios, as SVG."""

import statistics
from html import escape

WIDTH, LEFT, ROW, TOP = 640, 260, 30, 30
SCALE = (WIDTH - LEFT - 60) / 1.2
"""How wide a ratio of 1 is."""


def plot(ratios: list[tuple[str, str, list[float]]]) -> str:
    """Return a bar for each endpoint and reference: the median of its ratios, and a line from the least to the most."""
    height = TOP + ROW * len(ratios) + 20
    one = LEFT + SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"',
        ' font-size="12">',
        "<title>The share of each reference's throughput</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<line x1="{one:.0f}" y1="{TOP - 8}" x2="{one:.0f}" y2="{height - 12}" stroke="gray" stroke-dasharray="3"/>',
        f'<text x="{one:.0f}" y="{TOP - 12}" text-anchor="middle">as fast as the reference</text>',
    ]
    for number, (endpoint, reference, values) in enumerate(ratios):
        y = TOP + ROW * number
        median, low, high = (LEFT + SCALE * value for value in (statistics.median(values), min(values), max(values)))
        middle = y + ROW / 2 - 4
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(f"{endpoint}, against {reference}")}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{median - LEFT:.1f}" height="{ROW - 8}" fill="steelblue"/>',
            f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="black" stroke-width="2"/>',
            f'<text x="{high + 6:.1f}" y="{y + 15}">{statistics.median(values):.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])

"""Bar charts of engines, as SVG: overhear's bars in one colour, the others' in another."""


def svg(title, groups, width=680):
    """`groups`: (name, [(engine, value, label)]), a bar for each engine, each group on its own scale."""
    y, body = 50, []
    for name, rows in groups:
        widest = max(value for _, value, _ in rows)
        body.append(f'<text x="10" y="{y}" font-weight="bold">{name}</text>')
        for engine, value, label in rows:
            y += 20
            length = max(1, 360 * value / widest)
            colour = "#c2410c" if engine.startswith("overhear") else "#64748b"
            body.append(f'<text x="200" y="{y}" text-anchor="end">{engine}</text>'
                        f'<rect x="210" y="{y - 11}" width="{length:.1f}" height="14" fill="{colour}"/>'
                        f'<text x="{215 + length:.1f}" y="{y}">{label}</text>')
        y += 35
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">'
            f'<rect width="{width}" height="{y}" fill="white"/><text x="10" y="22" font-size="14">{title}</text>'
            + "".join(body) + "</svg>\n")

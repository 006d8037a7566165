"""The output of `gpu_1d.py`: one line per row, a table of ratios, the targets, and Markdown."""

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

# The targets for one H100 in bfloat16, as (column, limit, unit); see the op's README.
TARGETS = (
    ("forward_ms", 0.20, "ms"),
    ("forward_backward_ms", 1.0, "ms"),
    ("forward_temporary_mib", 0.15 * 1024, "MiB"),
    ("forward_backward_temporary_mib", 0.35 * 1024, "MiB"),
)


def line(row: Row) -> str:
    """Format one row as a line."""
    head = f"{row['case']:9} {row['implementation']:24} {row['dtype'][:8]:8}"
    if "milliseconds" in row:
        rate = [f"{row[k] / 1e12:.3g} T{k[0].upper()}/s" for k in row if k.endswith("_per_second")]
        return f"{head} {row['milliseconds']:8.3f} ms  {rate[0]}"
    cells = [
        f"{_number(row.get(f'{name}_ms'))} ms {_number(row.get(f'{name}_temporary_mib'))} MiB"
        for name in ("forward", "forward_backward")
    ]
    worst = max(row["errors"].values(), default=0.0) if "errors" in row else None
    tail = "" if worst is None else f"  error {worst:.0e}"
    tail += f"  compile {row['compile_s']:.0f} s" if "compile_s" in row else ""
    tail += f"  {row['reason'][:120]}" if "reason" in row else ""
    return f"{head} {' | '.join(cells)}{tail}"


def summary(rows: list[Row]) -> str:
    """Format a table of ratios, and the targets."""
    columns = ["case", "implementation", "dtype", "fwd ms", "f+b ms", "x ours", "x peer"]
    columns += ["fwd MiB", "f+b MiB", "GB/s", "(copy)", "TFLOP/s", "(product)", "ns/token"]
    body = [_cells(row, rows) for row in rows if "forward_ms" in row]
    parts = [_aligned([columns, *body])] if body else []
    parts.append(
        "x ours: time over our kernel's of the same shape (peers: the target's), forward/f+b; "
        "x peer: over the best peer's forward; GB/s and TFLOP/s of forward+backward, and of the "
        "limits of this run."
    )
    parts += targets(rows)
    return "\n".join(parts)


def markdown(document: dict[str, Any]) -> str:
    """Format the table for a README."""
    rows = document["rows"]
    versions = {"jax": document["jax"], **document.get("packages", {})}
    columns = ["shape", "implementation", "type", "forward", "forward+backward", "memory"]
    columns += ["copy limit", "product limit", "ns a token"]
    lines = [
        f"{document['device']}, " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
        "",
        "| " + " | ".join(columns) + " |",
        "| --- " * len(columns) + "|",
    ]
    for row in rows:
        if row["case"] == "limits":
            continue
        if "forward_ms" not in row:
            cells = [_shape(row), row["implementation"], row["dtype"], row.get("reason", "")]
            cells += [""] * (len(columns) - len(cells))
        else:
            cells = _markdown_cells(row, rows)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets(rows: list[Row]) -> list[str]:
    """List each target with the measured value and whether it is met."""
    lines = []
    ours = _find(rows, "target", "mosaic_gpu", "bfloat16")
    for key, limit, unit in TARGETS:
        if (value := ours.get(key)) is not None:
            lines.append(_verdict(f"{key} {value:.3g} {unit}, wanted {limit:.3g}", value <= limit))
    diagonal = _find(rows, "diagonal", "mosaic_gpu", "bfloat16").get("forward_ms")
    gla = _find(rows, "peers", "GLA", "bfloat16").get("forward_ms")
    if diagonal and gla:
        text = f"diagonal gate {diagonal:.3g} ms, GLA {gla:.3g} ms forward"
        lines.append(_verdict(text, diagonal <= gla))
    product = _find(rows, "peers", "gated delta product, 2", "bfloat16").get("forward_ms")
    if product and ours.get("forward_ms"):
        ratio = product / ours["forward_ms"]
        text = f"forward {ratio:.2f}x as fast as gated delta product, 2; wanted 2x"
        lines.append(_verdict(text, ratio >= 2))
    tokens = [
        (row["T"], row["forward_backward_ns_per_token"])
        for row in rows
        if row["case"].startswith(("T ", "target"))
        and (row["implementation"], row["dtype"]) == ("mosaic_gpu", "bfloat16")
        and "forward_backward_ns_per_token" in row
    ]
    if len(tokens) > 1:
        text = ", ".join(f"{T}: {ns:.3g}" for T, ns in sorted(tokens))
        lines.append(f"ns a token and head, forward+backward, at T = {text}")
    failed = [row for row in rows if "reason" in row]
    lines += [f"reason: {row['case']} {row['implementation']}: {row['reason']}" for row in failed]
    return lines


def _verdict(text: str, met: bool) -> str:
    return f"{'met   ' if met else 'MISSED'}: {text}"


def _cells(row: Row, rows: list[Row]) -> list[str]:
    peer = row["case"] == "peers"
    shape = ("target", "bfloat16") if peer else (row["case"], row["dtype"])
    kernels = (_find(rows, shape[0], name, shape[1]) for name in ("mosaic_gpu_small", "mosaic_gpu"))
    ours = next((kernel for kernel in kernels if "forward_ms" in kernel), {})
    best = min(
        (r["forward_ms"] for r in rows if r["case"] == "peers" and "forward_ms" in r), default=None
    )
    same_shape = peer or row["case"] in ("target", "diagonal")
    rates, fractions = _rates(row, rows)
    return [
        row["case"],
        row["implementation"],
        row["dtype"],
        _number(row["forward_ms"]),
        _number(row.get("forward_backward_ms")),
        "/".join(_ratio(row.get(k), ours.get(k)) for k in ("forward_ms", "forward_backward_ms")),
        _ratio(row["forward_ms"], best) if same_shape else "-",
        _number(row.get("forward_temporary_mib")),
        _number(row.get("forward_backward_temporary_mib")),
        rates[0],
        fractions[0],
        rates[1],
        fractions[1],
        _number(row.get("forward_backward_ns_per_token")),
    ]


def _markdown_cells(row: Row, rows: list[Row]) -> list[str]:
    _, fractions = _rates(row, rows)
    return [
        _shape(row),
        row["implementation"],
        row["dtype"],
        f"{_number(row['forward_ms'])} ms",
        f"{_number(row['forward_backward_ms'])} ms" if "forward_backward_ms" in row else "refused",
        f"{_number(row.get('forward_backward_temporary_mib'))} MiB",
        *fractions,
        _number(row.get("forward_backward_ns_per_token")),
    ]


def _shape(row: Row) -> str:
    if "T" not in row:
        return "8 x 8 heads, T 2048, size 64"
    batch = " x ".join(map(str, row["batch"]))
    return f"{batch} heads, T {row['T']}, DK {row['DK']}, DV {row['DV']}, J {row['J']}"


def _rates(row: Row, rows: list[Row]) -> tuple[list[str], list[str]]:
    """Return GB/s and TFLOP/s of forward+backward, absolute and as fractions of the limits."""
    rates, fractions = [], []
    for quantity, name, unit in (("bytes", "copy", 1e9), ("flops", "matrix product", 1e12)):
        rate = row.get(f"forward_backward_{quantity}_per_second")
        limit = _find(rows, "limits", name, "").get(f"{quantity}_per_second")
        rates.append("-" if rate is None else _number(rate / unit))
        fractions.append("-" if rate is None or limit is None else f"{100 * rate / limit:.1f} %")
    return rates, fractions


def _find(rows: Iterable[Row], case: str, implementation: str, dtype: str) -> Row:
    """Return the row of a case, implementation and type, or an empty row."""
    wanted = (case, implementation, dtype)
    return next((r for r in rows if (r["case"], r["implementation"], r["dtype"]) == wanted), {})


def _ratio(a: float | None, b: float | None) -> str:
    return "-" if not a or not b else f"{a / b:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _aligned(table: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        " ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )

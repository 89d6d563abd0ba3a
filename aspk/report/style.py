"""The report's style sheet: light and dark, screen and paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --back: #fff;
  --tile: #f6f8fa; --mark: #ddf4ff; --warn: #9a6700; --flag: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --back: #0d1117; --tile: #161b22; --mark: #12304f; --warn: #d29922; --flag: #f47067; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
header p { color: var(--soft); margin: 0.2rem 0 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; padding-bottom: 0.3rem;
  border-bottom: 1px solid var(--line); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.6rem; margin: 1rem 0; }
dl div { background: var(--tile); border-radius: 6px; padding: 0.5rem 0.8rem; }
dt { color: var(--soft); font-size: 0.8rem; } dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
dd small { color: var(--soft); font-size: 0.75rem; }
figure { margin: 0.5rem 0; text-align: center; }
figure svg { max-width: 100%; height: auto; color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; } tr.marked td { background: var(--mark); }
td.wrap { white-space: normal; text-align: left; min-width: 9rem; overflow-wrap: anywhere; }
.text td { white-space: normal; text-align: left; overflow-wrap: anywhere; } .text th { text-align: left; }
summary { cursor: pointer; } section > details { margin: 0.6rem 0; }
.note { color: var(--soft); font-size: 0.85rem; } .warn { color: var(--warn); font-size: 0.9rem; }
.flag { color: var(--flag); font-weight: 600; font-size: 0.85rem; }
.verdict { background: var(--mark); border-radius: 6px; padding: 0.6rem 0.8rem; }
.verdict.warning { background: none; color: var(--warn); border: 2px solid var(--warn); }
@media print { details > * { display: block; } }
"""

"""The style sheet of the page; that of the plots is in `svg.py`, since they stand alone too."""

from __future__ import annotations

PAGE_STYLE = """
:root { --ink: #1c2330; --quiet: #667085; --line: #dfe3ea; --paper: #ffffff; --ground: #f4f5f8;
  --accent: #3b6fd4; --accent2: #e2703a; --soft: #c3cad6; --warn: #b54708; --warnbg: #fff4e8;
  --warnline: #f6d2ad; --note: #175cd3; --notebg: #eef4ff; --noteline: #c7d9fb; --good: #12805c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf1; --quiet: #98a2b3; --line: #333a47;
  --paper: #1b202a; --ground: #12161d; --accent: #6d9bf5; --accent2: #f09365; --soft: #4b5566;
  --warn: #fdb575; --warnbg: #2e2216; --warnline: #5c4023; --note: #9cbcfb; --notebg: #18233a;
  --noteline: #2d4473; --good: #5fd0a6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial,
  sans-serif; -webkit-font-smoothing: antialiased; }
main { max-width: 1180px; margin: 0 auto; padding: 44px 28px 64px; }
header { margin-bottom: 26px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 6px;
  font-weight: 680; }
h2 { font-size: 16px; margin: 0; letter-spacing: -.005em; font-weight: 640; }
.lead { color: var(--quiet); font-size: 16px; margin: 0; }
.rules { margin: 14px 0 0; padding: 0; list-style: none;
  font: 13px/1.65 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--ink); }
.rules li { white-space: pre-wrap; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 0 0 18px; }
.tile { background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px 12px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; letter-spacing: -.02em;
  font-weight: 660; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile span { color: var(--quiet); font-size: 12.5px; display: block; }
.how { color: var(--quiet); font-size: 11.5px; }
.notes { margin: 0 0 18px; padding: 0; list-style: none; display: grid; gap: 8px; }
.notes li { border: 1px solid var(--warnline); background: var(--warnbg); border-radius: 10px;
  padding: 9px 14px; display: flex; gap: 12px; align-items: baseline; }
.notes li.note { border-color: var(--noteline); background: var(--notebg); }
.notes code { font-weight: 700; color: var(--warn); font-size: 13px; }
.notes .note code { color: var(--note); }
.notes .how { margin-left: auto; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 16px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 14px;
  padding: 18px 20px 14px; min-width: 0; }
.card .head { display: flex; justify-content: space-between; gap: 16px; align-items: baseline; }
.card p { margin: 2px 0 10px; color: var(--quiet); font-size: 13px; }
.card svg { width: 100%; height: auto; display: block; }
.wide { grid-column: 1 / -1; }
.route { display: flex; flex-wrap: wrap; gap: 8px 6px; align-items: center; margin: 12px 0 6px; }
.stop { background: var(--ground); border: 1px solid var(--line); border-radius: 999px;
  padding: 3px 12px; font-variant-numeric: tabular-nums; font-weight: 600; font-size: 14px; }
.by { color: var(--quiet); font-size: 12.5px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin-top: 10px; }
td { padding: 6px 10px 6px 0; border-top: 1px solid var(--line); vertical-align: baseline; }
td.value { font-variant-numeric: tabular-nums; font-weight: 560; overflow-wrap: anywhere; }
td.how { text-align: right; }
details { margin-top: 16px; } summary { cursor: pointer; color: var(--quiet); font-size: 13.5px; }
pre { background: var(--ground); border: 1px solid var(--line); border-radius: 10px;
  margin: 12px 0 0; padding: 14px 16px; overflow-x: auto;
  font: 12.5px/1.6 ui-monospace, SFMono-Regular, Menlo,
  Consolas, monospace; }
footer { color: var(--quiet); font-size: 13px; margin-top: 26px; }
@media (max-width: 620px) { main { padding: 24px 14px; } .cards { grid-template-columns: 1fr; }
  .notes li { flex-wrap: wrap; } .notes .how { margin-left: 0; } td.how { display: none; } }
@media print { body { background: none; } .card, .tile { break-inside: avoid; } }
"""

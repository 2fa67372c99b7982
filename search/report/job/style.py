"""How the page looks: on a telephone, wide, printed, light and dark."""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --words: #222; --quiet: #555; --line: #d8d8d8;
  --panel: #f5f5f4; --accent: 0 103 163; --alarm: 192 79 0; --link: #005a8f; }
@media (prefers-color-scheme: dark) { :root { --page: #181a1b; --words: #e8e8e8; --quiet: #b0b0b0;
  --line: #444; --panel: #232627; --accent: 98 184 238; --alarm: 255 155 94; --link: #8ecbf5; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--words); background: var(--page);
  max-width: 70rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 2.2rem 0 .5rem; padding-top: .5rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; }
.note, figcaption, caption { color: var(--quiet); font-size: .875rem; }
ul { padding-left: 1.2rem; margin: .5rem 0; }
li { margin: .2rem 0; max-width: 60rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { min-width: min(22rem, 100%); border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: .9rem; }
caption { text-align: left; padding: .2rem 0; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--quiet); vertical-align: bottom; white-space: normal; }
th[scope=row], td.words, th.words { text-align: left; }
tbody th { font-weight: normal; }
tbody th[scope=rowgroup] { font-weight: 600; text-align: left; padding-top: .8rem; }
td small { display: block; color: var(--quiet); }
@media (max-width: 36rem) { body { padding: .75rem; } th, td { padding: .25rem .4rem; }
  table { font-size: .85rem; } }
.long { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
tr.floor { color: var(--quiet); background: var(--panel); }
td.right { background: rgb(var(--accent) / calc(var(--share) * .55)); }
td.wrong { background: rgb(var(--alarm) / calc(var(--share) * .75)); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
  gap: 1rem 1.5rem; margin: .8rem 0; align-items: start; }
figure { margin: 0; max-width: 32rem; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
pre { background: var(--panel); padding: .6rem .8rem; overflow-x: auto; font-size: .85rem;
  margin: .3rem 0 1rem; }
summary { cursor: pointer; }
@media print {
  :root { color-scheme: light; --page: #fff; --words: #000; --quiet: #444; --line: #ccc; --panel: #f4f4f4;
    --accent: 0 103 163; --alarm: 192 79 0; --link: #000; }
  html { font-size: 11px; }
  body { font-size: 1rem; max-width: none; padding: 0; }
  nav { display: none; }
  .figures { grid-template-columns: repeat(3, 1fr); }
  .wide { overflow: visible; }
  table { font-size: .8rem; }
  th, td { white-space: normal; padding: .2rem .35rem; }
  tr { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  h2, h3 { break-after: avoid; }
  .long { min-width: 8rem; }
}
"""

"""The page of `redrum audition`: a player for each rhythm, by style, and the command that renders it."""

import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from daw_bridge.page import document, shown

_STYLE = """
header { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem; align-items: center;
  padding: .75rem 0; background: var(--page); border-bottom: 1px solid var(--line); }
button, input { font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line);
  border-radius: 6px; padding: .3rem .75rem; }
button { cursor: pointer; text-align: left; } input { flex: 1 1 10rem; min-width: 0; }
#play { min-width: 4.5rem; text-align: center; color: var(--on-accent); background: var(--accent); }
[data-src][aria-pressed=true] { color: var(--on-accent); background: var(--accent); }
h2 { font-size: 1.1rem; margin: 1.25rem 0 .25rem; } ul { padding: 0; margin: 0; list-style: none; }
li { padding: .4rem 0; } li .small { margin-left: .5rem; }
.command { display: flex; gap: .5rem; align-items: baseline; margin-top: .25rem; }
.command code { flex: 0 1 auto; font-size: .85rem; color: var(--faint); }
.word { display: inline-block; max-width: 100%; }
.copy { flex: none; font-size: .85rem; padding: .1rem .5rem; } [hidden] { display: none; }
"""
_SCRIPT = """
const buttons = [...document.querySelectorAll("[data-src]")];
const players = buttons.map((button) => {
  const player = new Audio(button.dataset.src);
  player.loop = true;
  player.volume = Number(button.dataset.volume);
  return player;
});
const play = document.getElementById("play"), filter = document.getElementById("filter");
const count = document.getElementById("count");
const items = [...document.querySelectorAll("li")];
let now = 0, before = 0, plays = false;
function choose(i) {
  const at = players[now].currentTime;
  players[now].pause();
  if (i !== now) before = now;
  now = i;
  const length = players[now].duration;
  players[now].currentTime = length ? at % length : 0;
  buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === now));
  buttons[now].scrollIntoView({ block: "nearest" });
  if (plays) players[now].play();
}
function toggle() {
  plays = !plays;
  play.textContent = plays ? "Stop" : "Play";
  if (plays) players[now].play(); else players[now].pause();
}
function step(by) {
  const shown = buttons.map((_, k) => k).filter((k) => !buttons[k].closest("[hidden]"));
  const next = by > 0 ? shown.find((k) => k > now) : shown.findLast((k) => k < now);
  choose(next ?? shown.at(by > 0 ? 0 : -1));
}
function show() {
  const words = filter.value.toLowerCase().split(/[\\s-]+/);
  for (const item of items) item.hidden = !words.every((word) => item.dataset.words.includes(word));
  for (const style of document.querySelectorAll("section")) {
    style.hidden = !style.querySelector("li:not([hidden])");
  }
  count.textContent = `${items.filter((item) => !item.hidden).length} of ${items.length} rhythms`;
}
async function copy(button) {
  getSelection().selectAllChildren(button.previousElementSibling);
  try {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  } catch {
    if (!document.execCommand("copy")) return;
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
play.addEventListener("click", toggle);
filter.addEventListener("input", show);
buttons.forEach((button, i) => button.addEventListener("click", () => {
  choose(i);
  if (!plays) toggle();
}));
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by) step(by);
  else if (event.target.closest("input, .copy")) return;
  else if (event.key === "a") choose(now === 0 ? before : 0);
  else if (event.key === " ") toggle();
  else return;
  event.preventDefault();
});
choose(0);
show();
"""


class Player(NamedTuple):
    """A sound of the page: what plays it, and how it is rendered; the first is the recording itself."""

    file: str
    level: float  # RMS over all channels, 1 for full scale
    title: str
    style: str = ""
    tempo: str = ""
    command: Sequence[str] = ()


def audition_page(name: str, notes: Sequence[str], players: Sequence[Player]) -> str:
    """Return the page of a recording that plays rhythms.

    Args:
        name: what the recording is called.
        notes: at which tempo all of them play, and why; empty where each has its own.
        players: the recording, and what plays it; all are turned down to the softest.
    """
    softest = min((player.level for player in players if player.level), default=1.0)
    first, rhythms = players[0], sorted(players[1:], key=lambda player: player.style)
    intro = (
        "<p>Click a rhythm: it goes on where the last one was, as loud as it. "
        "Arrow keys: the next; <kbd>a</kbd>: the recording, and back; space: stop. "
        "The command below a rhythm renders it in full quality.</p>"
    )
    notes = notes or ["Each plays at its own tempo."]
    tempo = "".join(f"<p>{shown(note[:1].upper() + note[1:])}</p>" for note in notes)
    bar = (
        f'<header><button id="play">Play</button>{_button(first, softest)}'
        '<input id="filter" type="search" placeholder="Filter by name or style" aria-label="Filter">'
        '<span id="count" class="small" role="status"></span></header>'
    )
    sections = "".join(
        f"<section><h2>{shown(style)}</h2><ul>{_items(group, softest)}</ul></section>"
        for style, group in groupby(rhythms, key=lambda player: player.style)
    )
    return document(f"{shown(name)} plays", _STYLE, f"{tempo}{intro}{bar}{sections}", _SCRIPT)


def _items(players: Iterable[Player], softest: float) -> str:
    return "".join(
        f'<li data-words="{shown(f"{player.title} {player.style}".lower())}">{_button(player, softest)}'
        f'<span class="small">written at {player.tempo}</span>'
        f'<div class="command"><code>{_command(player.command)}</code>'
        '<button class="copy">Copy</button></div></li>'
        for player in players
    )


def _button(player: Player, softest: float) -> str:
    volume = softest / player.level if player.level else 1
    return (
        f'<button data-src="{player.file}" data-volume="{volume:.4f}" aria-pressed="false">'
        f"{shown(player.title)}</button>"
    )


def _command(words: Iterable[str]) -> str:
    """Return a command for a shell, whose lines are broken between its words."""
    return " ".join(f'<span class="word">{shown(shlex.quote(word))}</span>' for word in words)

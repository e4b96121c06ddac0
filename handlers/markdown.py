"""The text of a Markdown document: what somebody reads aloud of it."""

from __future__ import annotations

import html
import re

_UNMARKED = re.compile(r"[^\W\d_][^*_~`\[\]<&\\!|]*")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?:[^\n]*\n){0,200}?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,500}>")
_ADDRESS = re.compile(r"<(?:https?://|mailto:)[^<>\s]{1,2000}>")
_IMAGE = re.compile(r"!\[[^\[\]\n]{0,500}\](?:\([^()\n]{0,2000}\)|\[[^\]\n]{0,200}\])")
_LINK = re.compile(r"\[([^\[\]\n]{1,500})\](?:\([^()\n]{0,2000}\)|\[[^\]\n]{0,200}\])")
_FOOTNOTE = re.compile(r"\[\^[^\]\n]{1,100}\]")
_DEFINITION = re.compile(r"^ {0,3}\[[^\]\n]{1,200}\]:.*$")
_RULE = re.compile(r"^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|=+)$")
_TABLE_RULE = re.compile(r"^[ \t]*[|:-][|: \t-]*$")
_HEADING = re.compile(r"^ {0,3}#{1,6}(?:[ \t]+|$)(.*)$")
_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(.*)$")
_QUOTE = re.compile(r"^[ \t]*(?:>[ \t]?)+")
_CODE = re.compile(r"(`{1,3})([^`\n]{1,500})\1")
_STRONG = re.compile(r"(\*{1,3}|~~)(?=\S)([^*~\n]{1,2000}?)(?<=\S)\1")
_UNDERLINED = re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_\n]{1,2000}?)(?<=\S)\1(?!\w)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")

_PRIVATE = 0xE000
"""Unicode's private use: there an escaped mark waits until the others are gone."""
_KEPT = re.compile(f"[{chr(_PRIVATE + 0x21)}-{chr(_PRIVATE + 0x7E)}]")


def markdown_text(text: str) -> str:
    """Returns the text of `text` without marks: headings, emphasis, links, lists, quotes, tables, code, comments.

    A heading and a list's item are lines of their own; the lines of a paragraph become one. Blocks of code go.
    """
    lines: list[list[str]] = []
    fence = ""
    flows = False
    for line in _without_comments(_FRONT_MATTER.sub("", text)).split("\n"):
        mark = _FENCE.match(line)
        if fence or mark:
            fence = _after_fence(fence, line, mark[1] if mark else "")
            flows = False
            continue
        spoken, alone = _line(line)
        if spoken and flows and not alone:
            lines[-1].append(spoken)
        else:
            lines += [[], [spoken]] if alone == "heading" else [[spoken]]
        flows = bool(spoken) and alone != "heading"
        if alone == "heading":
            lines.append([])
    return "\n".join(" ".join(line) for line in lines)


def _without_comments(text: str) -> str:
    first, *rest = text.split("<!--")
    return first + "".join(part.partition("-->")[2] if "-->" in part else part for part in rest)


def _after_fence(fence: str, line: str, mark: str) -> str:
    if not fence:
        return mark
    return "" if mark.startswith(fence) and not line.strip().strip(mark[0]) else fence


def _line(line: str) -> tuple[str, str]:
    """Returns what is read aloud of a line, and "heading" or "item" where it does not continue the line before it."""
    if _UNMARKED.fullmatch(line):
        return line.strip(), ""
    line = _QUOTE.sub("", line)
    if _RULE.match(line) or _DEFINITION.match(line) or ("-" in line and _TABLE_RULE.match(line)):
        return "", ""
    if heading := _HEADING.match(line):
        title = heading[1].rstrip()
        bare = title.rstrip("#")
        return _inline(title if bare and bare[-1] not in " \t" else bare), "heading"
    if item := _ITEM.match(line):
        return _inline(item[1]), "item"
    if line.lstrip().startswith("|"):
        return _inline(" ".join(line.replace("|", " ").split())), "item"
    return _inline(line), ""


def _inline(text: str) -> str:
    text = _ESCAPED.sub(lambda mark: chr(_PRIVATE + ord(mark[1])), text)
    text = _FOOTNOTE.sub("", _IMAGE.sub("", text))
    text = _TAG.sub("", _ADDRESS.sub("", _LINK.sub(r"\1", text)))
    text = _CODE.sub(r"\2", text)
    for _ in range(3):  # emphasis inside emphasis
        text = _UNDERLINED.sub(r"\2", _STRONG.sub(r"\2", text))
    return _KEPT.sub(lambda mark: chr(ord(mark[0]) - _PRIVATE), html.unescape(text)).strip()

"""One page of the course's site: a notebook or a Markdown file as HTML that needs no network, no kernel and no other site."""

import re
from dataclasses import dataclass
from html import escape

from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

__all__ = ["PageBody", "Section", "formula", "render_markdown", "render_notebook"]

_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_PAGE = re.compile(r"(?:\./)?(\d\d_\w+\.ipynb|\w+\.md)(#.*)?")
_COLOURS = re.compile(r"(?:^|[;{])\s*(?:color|background)")
_SAID_BESIDE = "A picture; the text beside it says what it shows."
_NO_PANEL = "This is a panel: its controls work in the notebook only."


@dataclass(frozen=True)
class Section:
    """A heading and the text below it, up to the next heading.

    Attributes:
        level: 1 to 4.
        anchor: the heading's id.
        heading, text: plain text.
    """

    level: int
    anchor: str
    heading: str
    text: str


@dataclass(frozen=True)
class PageBody:
    """What a page shows between header and footer.

    Attributes:
        title: the first heading.
        html: the content, links and ids in place.
        sections: in the page's order.
    """

    title: str
    html: str
    sections: tuple[Section, ...]


def formula(tex: str, display: str = "inline") -> str:
    """A formula as MathML, which browsers draw by themselves; the TeX itself where it cannot be converted.

    Args:
        tex: without dollar signs.
        display: ``inline`` or ``block``.

    Example:
        >>> formula("r").startswith('<math alttext="r" ')
        True
    """
    from latex2mathml.converter import convert

    try:
        made = convert(tex, display=display)
    except Exception:  # the converter raises its own errors as well as IndexError and the like
        return f"<code>{escape(tex)}</code>"
    return made.replace("<math ", f'<math alttext="{escape(tex)}" ', 1)


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown with formulas as MathML."""

    def inline_math(self, body):
        return f'<span class="formula">{formula(body)}</span>'

    def block_math(self, body):
        return f'<span class="formula">{formula(body, "block")}</span>'

    def latex_environment(self, name, body):
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


class _Exporter(HTMLExporter):
    """nbconvert's plain HTML of cells, without its page, scripts and styles."""

    template_name = "basic"
    exclude_input_prompt = True
    exclude_output_prompt = True

    @pass_context
    def markdown2html(self, context, source):
        return _to_html(source)


def _to_html(source: str) -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(source)


def render_notebook(notebook, pages) -> PageBody:
    """An executed notebook as the body of a page.

    Args:
        notebook: with outputs; its panels are shown as the picture and sentence they ended with.
        pages: file names of the site's pages, for links; a link to any other local file keeps its text only.
    """
    states = notebook.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if _VIEW in output.get("data", {}):
                output["data"] = {"text/html": _still(states, output["data"][_VIEW].get("model_id", ""))}
    html, _ = _Exporter().from_notebook_node(notebook)
    return _finish(html, pages)


def render_markdown(text: str, pages) -> PageBody:
    """A Markdown text as the body of a page; ``pages`` as in :func:`render_notebook`."""
    return _finish(f'<div class="text_cell_render">{_to_html(text)}</div>', pages)


def _still(states: dict, model_id: str) -> str:
    """A panel without its controls: the sentences and pictures among its parts."""
    kept = "".join(_parts(states, model_id))
    return f'<div class="panel"><p class="note">{_NO_PANEL}</p>{kept}</div>'


def _parts(states: dict, model_id: str):
    model = states.get(model_id, {})
    state, kind = model.get("state", {}), model.get("model_name")
    if state.get("layout") and _hidden(states, state["layout"]):
        return
    if kind == "ImageModel":
        for buffer in model.get("buffers", []):
            yield f'<img alt="{_SAID_BESIDE}" src="data:image/png;base64,{buffer["data"]}">'
    elif kind == "HTMLModel":
        yield f"<div>{state.get('value', '')}</div>"
    for child in state.get("children", []):
        yield from _parts(states, child.removeprefix("IPY_MODEL_"))


def _hidden(states: dict, layout: str) -> bool:
    state = states.get(layout.removeprefix("IPY_MODEL_"), {}).get("state", {})
    return state.get("display") == "none" or state.get("visibility") == "hidden"


def _finish(html: str, pages) -> PageBody:
    """Give headings ids, links their targets and wide parts a scroll bar of their own; then collect the sections."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(["script", "link", "iframe", "object", "embed"]):
        tag.decompose()
    for anchor in soup.select("a[id]:not([href])"):  # for readers that lower-case headings' ids; here they are kept
        anchor.decompose()
    _name_headings(soup)
    for link in soup("a", href=True):
        _point(link, pages)
    for tag in soup(True):
        for name in [name for name in tag.attrs if name.startswith("on")]:  # handlers, from someone's output
            del tag[name]
    for image in soup("img"):
        image["loading"] = "lazy"
        if not image.get("src", "").startswith("data:"):
            image.replace_with(image.get("alt") or _SAID_BESIDE)  # pages ask for nothing
        elif not image.get("alt"):
            image["alt"] = _SAID_BESIDE
    for wide in soup(["table", "pre"]):
        _let_scroll(soup, wide)
    for output in soup.select(".output_html"):
        if output.find("style", string=_COLOURS) or output.find(style=_COLOURS):
            output["class"].append("paper")  # it brings colours of its own, made for a light page
    sections = _sections(soup)
    return PageBody(sections[0].heading if sections else "", str(soup), tuple(sections))


def _name_headings(soup) -> None:
    """Ids as JupyterLab makes them (spaces become dashes); a second one of the same name gets a number."""
    seen = {}
    for heading in soup(["h1", "h2", "h3", "h4"]):
        name = "-".join(heading.get_text().split())
        seen[name] = seen.get(name, 0) + 1
        heading["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"


def _point(link, pages) -> None:
    """Notebooks and Markdown files become pages; files of the course folder that are no page lose their link."""
    href = link["href"]
    page = _PAGE.fullmatch(href)
    target = re.sub(r"\.(ipynb|md)$", ".html", page[1]) if page else ""
    if target in pages:
        link["href"] = target + (page[2] or "")
    elif re.match(r"https?:", href):
        link["rel"] = "noreferrer"
    elif not href.startswith("#"):
        link.unwrap()


def _let_scroll(soup, wide) -> None:
    """A box around it that scrolls, by keyboard too."""
    box = soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0", "role": "group"})
    box["aria-label"] = "table" if wide.name == "table" else "code or output"
    wide.wrap(box)


def _sections(soup) -> list[Section]:
    """What search knows: headings with the prose and the code below them; outputs are left out."""
    found, texts = [], []
    for node in soup.select(".text_cell_render > *, .input_area"):
        if re.fullmatch(r"h[1-4]", node.name):
            texts = []
            found.append((int(node.name[1]), node["id"], " ".join(node.get_text().split()), texts))
        elif found:
            texts.append(node.get_text(" " if node.name != "div" else ""))
    return [Section(level, anchor, heading, " ".join(" ".join(texts).split())) for level, anchor, heading, texts in found]

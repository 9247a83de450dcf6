"""The check of a built site: each kind of fault is found where it is, and a sound site has none."""

import http.server
import threading

import pytest

from circuitbook.__main__ import main
from circuitbook.publishing.links import check_site

SOUND = """<!DOCTYPE html>
<link rel="canonical" href="https://example.org/elsewhere.html">
<link rel="stylesheet" href="../_static/a.css?v=1">
<script src="../_static/view.js"></script><script data-scripts="view.js">{}</script>
<h1 id="here">Title</h1><a href="#here">1</a><a href="other.html#there">2</a><a href="./">3</a>
<a href="mailto:me@example.org">4</a><a href="https://example.org/page">5</a>
<img alt="" src="data:image/png;base64,AA"><a href="a%20file.txt">6</a>
<a href="other.html#lab.model=m&lab.step=3">7</a>
"""


@pytest.fixture
def site(tmp_path):
    for name, text in {
        "book/index.html": SOUND,
        "book/other.html": '<p id="there"></p><a name="old">',
        "book/a file.txt": "x",
        "_static/view.js": "",
        "_static/a.css": "",
        "_static/demo.html": '<a href="nowhere">',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_sound_site_has_no_fault(site):
    assert check_site(site) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<a href="gone.html">', "there is no gone.html"),
        ('<a href="gone.html#there">', "there is no gone.html"),
        ('<a href="other.html#gone">', "#gone is not in book/other.html"),
        ('<a href="#gone">', "#gone is not in book/page.html"),
        ('<p id="x"><p id="x"><a href="#x">', "#x is 2 times in book/page.html"),
        ('<img alt="A curve." src="gone.png">', "there is no gone.png"),
        ('<img src="../_static/a.css">', "an image has no alt text"),
        ('<script src="../_static/gone.js"></script>', "there is no ../_static/gone.js"),
        ('<script data-scripts="view.js gone.js">{}</script>', "there is no /_static/gone.js"),
        (
            '<script src="https://example.org/x.js"></script>',
            "loads https://example.org/x.js from another host",
        ),
        ('<img alt="" src="//example.org/x.png">', "loads //example.org/x.png from another host"),
        ('<a href="../../secret.html">', "the link to ../../secret.html leads out of the site"),
        ('<meta http-equiv="refresh" content="0; url=gone.html">', "there is no gone.html"),
        ('<a href="../_static/">', "there is no ../_static/"),
    ],
)
def test_each_fault_is_found_on_its_line(site, text, said):
    (site / "book/page.html").write_text(f"<p>\n{text}\n")
    assert check_site(site) == [f"book/page.html:2: {said}"]


def test_links_from_the_top_begin_with_the_path_that_the_canonical_address_tells(site):
    (site / "404.html").write_text(
        '<link rel="canonical" href="https://me.example/a-book/404.html">'
        '<a href="/a-book/book/other.html#there"><a href="/a-book/gone.html">'
    )
    assert check_site(site) == ["404.html:1: there is no /a-book/gone.html"]


def test_other_hosts_are_asked_only_on_demand(site):
    class Host(http.server.BaseHTTPRequestHandler):
        asked = []

        def do_GET(self):
            self.asked.append((self.command, self.path))
            self.send_response(
                {
                    "/here": 200,
                    "/not-for-programs": 403,
                    "/get-only": 200 if self.command == "GET" else 405,
                }.get(self.path, 404)
            )
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        top = f"http://127.0.0.1:{server.server_port}"
        (site / "book/index.html").write_text(
            "".join(
                f'<a href="{top}{path}">\n'
                for path in ("/here#x", "/gone", "/get-only", "/not-for-programs")
            )
        )
        assert check_site(site) == [] and not Host.asked
        assert check_site(site, external=True) == [f"book/index.html:2: {top}/gone answers 404"]
        server.shutdown()
    (site / "book/index.html").write_text(f'<a href="{top}/here">')
    assert (
        "book/index.html:1: " in check_site(site, external=True)[0]
        and "cannot be reached" in check_site(site, external=True)[0]
    )


def test_the_command_lists_the_faults_and_fails(site, tmp_path, capsys):
    main(["links", str(site)])
    assert "every link, anchor, image and script" in capsys.readouterr().out
    (site / "book/page.html").write_text('<a href="gone.html">')
    with pytest.raises(
        SystemExit, match=r"(?s)error: 1 fault in .*:\n  book/page\.html:1: there is no gone\.html"
    ):
        main(["links", str(site)])
    with pytest.raises(SystemExit, match=r"there is no page in .*: build the book first"):
        main(["links", str(tmp_path / "nothing")])

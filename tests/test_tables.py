"""Tables in a page."""

import pandas as pd
from bs4 import BeautifulSoup

from circuitbook.figures.tables import folded, styled

NUMBERS = pd.DataFrame({"model": ["<b>a</b>"], "share": ["25%"]})


def test_tables_fold_behind_a_line_and_their_cells_stay_text():
    page = BeautifulSoup(folded("All <shares>", NUMBERS, styled(NUMBERS)).data, "html.parser")
    fold = page.find("details")
    assert "open" not in fold.attrs and fold.find("summary").text == "All <shares>"
    assert len(fold.find_all("table")) == 2 and not fold.find("b")
    first, second = (table.find("tbody").find("tr") for table in fold.find_all("table"))
    assert [cell.text for cell in first.find_all(["th", "td"])] == ["<b>a</b>", "25%"]
    assert second.find("th").text == "0"  # a table of one's own keeps its index


def test_there_is_no_fold_without_rows():
    assert folded("All shares", NUMBERS[:0]).data == ""
    page = BeautifulSoup(folded("All shares", NUMBERS[:0], NUMBERS).data, "html.parser")
    assert len(page.find_all("table")) == 1

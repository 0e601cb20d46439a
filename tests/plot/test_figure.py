import base64
import io
import os
import pickle
import subprocess
import sys
import textwrap

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from PIL import Image

from neurosuper.plot.figure import PlotFigure, open_axes, open_panels

DRAWN = """
import sys
from neurosuper.plot.figure import PlotFigure
figure = PlotFigure(figsize=(3, 2), layout="constrained")
figure.add_subplot().plot([0, 1])
"""
AS_IN_A_KERNEL = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
WINDOWS = '''
"""A window system whose windows only count."""
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
events = []
class Manager(FigureManagerBase):
    def show(self):
        events.append(("show", self.num, self.canvas.figure))
    @classmethod
    def start_main_loop(cls):
        events.append("wait")
class FigureCanvas(FigureCanvasAgg):
    manager_class = Manager
FigureManager = Manager
'''


def run(code, tmp_path, **environment):
    """Run a script in a folder with the module `windows`; every warning is an error."""
    (tmp_path / "windows.py").write_text(WINDOWS, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    path = f"{tmp_path}:{inherited.get('PYTHONPATH', '')}"
    command = [sys.executable, "-W", "error", "-c", DRAWN + textwrap.dedent(code)]
    ran = subprocess.run(
        command, env=inherited | {"PYTHONPATH": path} | environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.fixture
def figure():
    figure = PlotFigure(figsize=(3, 2), layout="constrained")
    figure.add_subplot().plot([0, 1], rasterized=True)
    figure.axes[0].set_title("a name of 3 $ or 4 $", parse_math=False)
    return figure


def test_a_saved_svg_keeps_text_as_text_whenever_it_is_saved(figure):
    file = io.StringIO()
    figure.savefig(file, format="svg")
    assert ">a name of 3 $ or 4 $</text>" in file.getvalue()


def test_a_saved_pdf_embeds_its_fonts_as_text(figure):
    file = io.BytesIO()
    figure.savefig(file, format="pdf")
    assert b"/FontFile2" in file.getvalue()  # TrueType (type 42), which editors can edit
    assert b"/Type3" not in file.getvalue()


def test_rasterized_points_are_as_sharp_as_a_journal_asks_for(figure):
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    encoded = svg.getvalue().split("data:image/png;base64,")[1].split('"')[0]
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert image.width > 0.7 * 3 * 300
    png = io.BytesIO()
    figure.savefig(png, format="png")
    assert Image.open(png).size == (900, 600)


def test_the_user_may_set_the_resolution(figure):
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=50)
    assert Image.open(png).size == (150, 100)
    with matplotlib.rc_context({"savefig.dpi": 100}):
        figure.savefig(png := io.BytesIO(), format="png")
    assert Image.open(png).size == (300, 200)


def test_a_notebook_shows_twice_as_many_pixels_as_it_takes_on_the_screen(figure):
    data, metadata = figure._repr_mimebundle_(include=None, exclude=None)
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size == (600, 400)
    assert metadata == {"image/png": {"width": 300, "height": 200}}


@pytest.mark.parametrize("first", ["", "import matplotlib.pyplot; "], ids=["without pyplot", "with pyplot"])
def test_a_cell_shows_its_figure_once_and_sharp(first, tmp_path):
    code = f"""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    shell = InteractiveShell.instance()
    shell.run_cell("{first}from neurosuper.plot.figure import PlotFigure")
    with capture_output() as shown:
        shell.run_cell("figure = PlotFigure(figsize=(3, 2)); _ = figure.add_subplot(); display(figure)")
    (once,) = shown.outputs
    assert set(once.data) == {{"image/png", "text/plain"}}, once.data
    assert once.metadata == {{"image/png": {{"width": 300, "height": 200}}}}, once.metadata
    """
    run(code, tmp_path, **AS_IN_A_KERNEL)


def test_show_in_a_notebook_displays_the_figure_once(tmp_path):
    code = """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    shell = InteractiveShell.instance()
    shell.run_cell("from neurosuper.plot.figure import PlotFigure")
    with capture_output() as shown:
        shell.run_cell("f = PlotFigure(figsize=(3, 2)); _ = f.add_subplot(); f.show()")
    assert [o.metadata.get("image/png", {}).get("width") for o in shown.outputs] == [300], shown.outputs
    """
    run(code, tmp_path, **AS_IN_A_KERNEL)


def test_show_opens_a_window_and_waits_and_opens_it_again_after_it_was_closed(tmp_path):
    code = """
    figure.show()
    import windows, matplotlib.pyplot as plt
    figure.show()
    plt.close("all")
    figure.show()
    shown = [event for event in windows.events if event != "wait"]
    assert all(of is figure for _, _, of in shown) and len(shown) == 3, windows.events
    assert windows.events.count("wait") == 3 and len(plt.get_fignums()) == 1
    figure.savefig("/dev/null", format="svg")
    """
    run(code, tmp_path, MPLBACKEND="module://windows")


@pytest.mark.parametrize("backend", [{}, {"MPLBACKEND": "agg"}, {"MPLBACKEND": "tkagg"}], ids=["auto", "agg", "tkagg"])
def test_show_without_a_screen_says_how_to_save(tmp_path, backend):
    code = """
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.show()
        figure.show(warn=False)
    assert [str(each.message).split(";")[1] for each in caught] == [
        " save the figure with figure.savefig('figure.png'), or return it from a cell of a notebook"
    ], caught
    assert caught[0].filename == "<string>"
    """
    run(code, tmp_path, **backend)


def test_pyplot_is_imported_only_to_show(tmp_path):
    code = "figure._repr_mimebundle_(); figure.savefig('/dev/null', format='svg'); "
    assert run(code + "print('matplotlib.pyplot' in sys.modules)", tmp_path) == ["False"]


def test_a_figure_is_a_figure_of_matplotlib_and_can_be_pickled(figure):
    again = pickle.loads(pickle.dumps(figure))
    assert isinstance(again, Figure)
    assert again.axes[0].get_title() == figure.axes[0].get_title()


def test_panels_in_given_axes_are_in_its_place_and_go_with_it():
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
    panels, drawn = open_panels(left, (1, 1), 2, 3, gap=(0.2, 0.1), n_rows_above=1)
    assert drawn is left
    assert left.child_axes == panels.ravel().tolist()
    figure.draw_without_rendering()
    outer, boxes = left.get_position(), [panel.get_position() for panel in panels.ravel()]
    assert min(box.x0 for box in boxes) == pytest.approx(outer.x0)
    assert max(box.x1 for box in boxes) == pytest.approx(outer.x1)
    assert min(box.y0 for box in boxes) == pytest.approx(outer.y0)
    assert max(box.y1 for box in boxes) < outer.y1 - 0.05  # a legend
    assert boxes[0].y0 > boxes[3].y1
    assert figure.axes == [left, right]
    plt.close(figure)


def test_what_is_not_one_axes_is_refused():
    figure, several = plt.subplots(1, 2)
    for opened in (open_axes, lambda ax, size: open_panels(ax, size, 1, 2)):
        with pytest.raises(TypeError, match=r"ax must be one matplotlib Axes, got ndarray; pass one of"):
            opened(several, (3, 2))
    plt.close(figure)

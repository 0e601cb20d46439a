from neurosuper.plot.style import OKABE_ITO, finder_looks


def test_the_usual_finders_look_the_same_in_every_figure():
    alone = finder_looks(["KMeans"])["KMeans"]
    assert finder_looks(["SAE", "KMeans", "ICA", "Units"])["KMeans"] == alone


def test_order_does_not_matter():
    assert finder_looks(["SAE", "ICA", "PCA"]) == finder_looks(["PCA", "ICA", "SAE"])


def test_no_two_finders_look_the_same():
    looks = finder_looks([f"finder {i}" for i in range(20)])
    assert len(set(looks.values())) == 20
    assert {look.color for look in looks.values()} == set(OKABE_ITO)

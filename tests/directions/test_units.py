import pytest
from numpy.testing import assert_allclose

from neurosuper.directions import Units


def test_codes_are_the_responses(responses):
    codes = Units().fit_transform(responses)
    assert_allclose(codes, responses, rtol=1e-6)
    assert codes.direction.values.tolist() == responses.unit.values.tolist()


def test_another_number_of_directions_is_refused(responses):
    with pytest.raises(ValueError, match="one direction per unit, 8 here, not 3"):
        Units(3).fit(responses)

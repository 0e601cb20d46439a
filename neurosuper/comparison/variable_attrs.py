"""The attrs `long_name` and `units` of the variables and coords of comparisons and contrasts.

A number without a physical unit has the unit "1", as the CF conventions ask of counts, ranks, shares and p-values. The
index has it too: it is in the unit of each metric's distance, which the coord `quantity` describes. Texts have none.
"""

from __future__ import annotations

import xarray as xr

NUMBERS = {
    # of a comparison
    "interpretability": "interpretability index",
    "corrected": "hub-corrected interpretability index",
    "chance_level": "chance level of the index",
    "chance_level_sd": "standard deviation of the index of random sets",
    "corrected_chance_low": "lower end of the interval of the hub-corrected index of random sets",
    "corrected_chance_high": "upper end of the interval of the hub-corrected index of random sets",
    "corrected_chance_sd": "standard deviation of the hub-corrected index of random sets",
    "chance_level_low": "lower end of the interval of the chance level",
    "chance_level_high": "upper end of the interval of the chance level",
    "difference_of_halves": "index on one random half of the stimuli minus that on the other",
    "mean_of_halves": "mean index on random halves of the stimuli",
    "influence": "change of the index without this top stimulus",
    "index_reliability": "correlation of the index over items between random halves of the stimuli",
    "corrected_difference_of_halves": "hub-corrected index on one random half of the stimuli minus that on the other",
    "corrected_influence": "change of the hub-corrected index without this top stimulus",
    "corrected_reliability": "correlation of the hub-corrected index over items between random halves of the stimuli",
    "frequency_floor": "index of a set that picks the same images as often, at random",
    "n_active": "number of active stimuli",
    "n_stimuli": "number of stimuli scored on",
    "n_stimulus_groups": "number of groups of stimuli scored on",
    "top_groups": "number of the group of a top stimulus",
    "has_copies": "whether copies of one photograph are among the top stimuli",
    "item": "number of the item",
    "seed": "seed of the split and of the finders",
    # of a study with planted directions
    "recovery": "largest |cosine| between a planted direction and the directions found",
    "fit_seed": "seed of the fit",
    # of contrasts
    "difference": "difference in mean index",
    "difference_low": "lower end of the confidence interval of the difference",
    "difference_high": "upper end of the confidence interval of the difference",
    "standard_error": "standard error of the difference",
    "p_value": "p-value over stimuli and items",
    "p_items": "p-value over items alone",
    "p_adjusted": "p-value adjusted for multiple tests",
    "detectable": "whether the adjusted p-value is below 0.05",
    "supported": "whether the adjusted p-value is below 0.05, in the direction that was stated",
    "cohens_d": "Cohen's d",
    "superiority": "probability that an item of the first set scores above one of the second",
    "estimate_a": "mean index of the first set",
    "estimate_b": "mean index of the second set",
    "n_a": "number of items in the first set",
    "n_b": "number of items in the second set",
    "n_inactive_a": "number of inactive items left out of the first set",
    "n_inactive_b": "number of inactive items left out of the second set",
    "n_family": "number of tests in the family",
}
TEXTS = {
    "top_stimuli": "labels of the top stimuli, strongest first",
    "system": "name of the system",
    "finder": "name of the finder",
    "direction": "label of the unit or direction",
    "baseline": "name of the matched baseline of the finder",
    "metric": "name of the metric",
    "quantity": "what the index measures, and its unit",
    "fit_system": "name of the system of the fit",
    "fit_finder": "name of the finder of the fit",
    "planted": "label of the planted direction",
    "against": "finder or system that is the reference",
    "correction": "correction of the index",
    "alternative": "stated sign of the difference",
    "family": "tests that are adjusted together",
    "sentence": "the test in words",
}


def add_attrs(table: xr.Dataset) -> xr.Dataset:
    """Return a comparison or contrasts whose own variables and coords have the attrs `long_name` and `units`."""
    table = table.copy()  # shallow
    for name in map(str, table.variables):
        if name in NUMBERS:
            table[name].attrs |= {"long_name": NUMBERS[name], "units": "1"}
        elif name in TEXTS:
            table[name].attrs["long_name"] = TEXTS[name]
    return table

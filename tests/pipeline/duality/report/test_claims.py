"""The claims and the names of the checks agree."""

from pipeline.duality import names
from pipeline.duality.config import PARTS
from pipeline.duality.report.claims import CLAIMS


def test_the_texts_of_the_claims_differ():
    texts = [claim.text for claim in CLAIMS]
    assert len(set(texts)) == len(texts)


def test_every_claim_is_about_a_part():
    assert {claim.part for claim in CLAIMS} == set(PARTS)


def test_no_name_of_a_difference_begins_like_that_of_another_check():
    """Claims find checks by the beginning of their names."""
    differences = [names.above_reference(check) for check in (names.REWARD, names.ACCURACY)]
    claimed = [claim.check for claim in CLAIMS]
    assert not any(name.startswith(check) for name in differences for check in claimed)

"""What an in-context encoder is meta-trained on."""

from __future__ import annotations

import pytest
import torch

from cerebridge.encoding.readouts.episodes import Episodes, Subject, hold_out, stages, z_score


def person(images, voxels, offset=0):
    """Responses that say which image and voxel they are of."""
    embeddings = torch.arange(float(images))[:, None].expand(-1, 3) + offset
    return Subject(embeddings, 1000 * embeddings[:, :1] + torch.arange(float(voxels)))


def draw(episodes, seed=0):
    return list(episodes.draw(torch.Generator().manual_seed(seed)))


def test_an_epoch_shows_every_voxel_of_every_subject_once():
    episodes = Episodes([person(30, 7), person(40, 5, offset=100)], (4, 6), queries=10, batch_size=3)
    batches = draw(episodes)
    assert len(batches) == len(episodes) == 3 + 2
    voxels = [(batch["truth"] % 1000)[:, 0] + 1000 * (batch["queries"][:, 0, 0] >= 100) for batch in batches]
    assert torch.cat(voxels).sort().values.tolist() == [0, 1, 2, 3, 4, 5, 6, 1000, 1001, 1002, 1003, 1004]


def test_responses_belong_to_their_images_and_no_image_is_both_example_and_query():
    for batch in draw(Episodes([person(30, 7)], (4, 6), queries=10, batch_size=3)):
        for embeddings, responses in (("embeddings", "responses"), ("queries", "truth")):
            assert ((batch[responses] // 1000) == batch[embeddings][..., 0]).all()
        images = torch.cat([batch["embeddings"], batch["queries"]], dim=1)[..., 0]
        assert all(len(row.unique()) == len(row) for row in images)
        assert len(images) == 1 or (images[0] != images[1]).any()


def test_every_length_of_context_is_drawn():
    episodes = Episodes([person(30, 200)], (4, 6), queries=10, batch_size=3)
    assert {batch["embeddings"].shape[1] for batch in draw(episodes)} == {4, 5, 6}


def test_equal_seeds_draw_alike():
    episodes = Episodes([person(30, 7)], (4, 6), queries=10, batch_size=3)
    first, again, other = draw(episodes), draw(episodes), draw(episodes, seed=1)
    assert all(torch.equal(a["embeddings"], b["embeddings"]) for a, b in zip(first, again, strict=True))
    assert not all(
        torch.equal(a["truth"], b["truth"]) for a, b in zip(first, other, strict=True) if len(a) == len(b)
    )


def test_synthetic_voxels_are_linear_plus_noise_with_the_moments_of_recorded_ones():
    generator = torch.Generator().manual_seed(0)
    subject = Subject(
        torch.randn(500, 3, generator=generator), 5 + 2 * torch.randn(500, 64, generator=generator)
    )
    batch = next(iter(Episodes([subject], (200, 200), 100, 64, synthetic=True).draw(generator)))
    responses = torch.cat([batch["responses"], batch["truth"]], dim=1)
    assert float(responses.mean()) == pytest.approx(5, abs=0.2)
    assert float(responses.std(1).mean()) == pytest.approx(2, rel=0.1)
    design = torch.cat([batch["embeddings"], batch["queries"]], dim=1)
    design = torch.cat([design, torch.ones_like(design[..., :1])], dim=2)
    fitted = (design @ torch.linalg.lstsq(design, responses[..., None]).solution).squeeze(2)
    share = fitted.var(1) / responses.var(1)
    assert share.min() < 0.2 < 0.8 < share.max()


def test_stages_go_from_short_synthetic_to_recorded():
    assert stages((4, 9)) == [("short", (4, 4), True), ("long", (4, 9), True), ("recorded", (4, 9), False)]


@pytest.mark.parametrize(("share", "tested"), [(0.01, 1), (0.3, 3), (0.99, 9)])
def test_both_sides_hold_voxels_and_no_voxel_is_on_both(share, tested):
    ours, theirs = (part[0].responses[0] for part in hold_out([person(5, 10)], share, random_state=0))
    assert len(theirs) == tested
    assert sorted([*ours.tolist(), *theirs.tolist()]) == list(range(10))


def test_a_constant_voxel_is_centred_and_not_divided():
    scored, mean, scale = z_score(torch.tensor([[3.0, 0.0], [3.0, 2.0]]), wanted=True)
    assert scored.tolist() == [[0, -1], [0, 1]]
    assert mean.tolist() == [3, 1]
    assert scale.tolist() == [1, 1]

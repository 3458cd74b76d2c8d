from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from secateur.data import fingerprint, split_data
from secateur.errors import DataError


def numbered(count: int, **options) -> DataLoader:
    """Samples whose input is their number, so that one can see where each went."""
    x = torch.arange(count, dtype=torch.float32)[:, None]
    return DataLoader(TensorDataset(x, torch.arange(count) % 3), **options)


def numbers(loader) -> list[int]:
    return [int(v) for inputs, _ in loader for v in inputs.flatten()]


def test_parts_share_no_sample_and_lose_none():
    data = split_data(numbered(100, batch_size=8, shuffle=True), numbered(20, batch_size=8), seed=3)
    train, select = numbers(data.train), numbers(data.select)
    assert sorted(train + select) == list(range(100))
    assert len(select) == 10
    assert numbers(data.evaluate) == list(range(20))


def test_same_seed_same_split_and_order_and_another_seed_another():
    def once(seed):
        data = split_data(numbered(60, batch_size=8, shuffle=True), numbered(8, batch_size=8), seed=seed)
        return numbers(data.train), numbers(data.select), fingerprint(data)

    torch.manual_seed(99)
    first = once(1)
    torch.manual_seed(5)
    assert once(1) == first
    assert once(2)[1] != first[1]
    assert once(2)[2] != first[2]


def test_each_epoch_has_an_order_of_its_own_that_can_be_returned_to():
    data = split_data(numbered(60, batch_size=8, shuffle=True), numbered(8, batch_size=8))
    data.train.set_epoch(4)
    fourth, fifth = numbers(data.train), numbers(data.train)
    assert fourth != fifth
    data.train.set_epoch(4)
    assert numbers(data.train) == fourth


def test_a_loader_that_does_not_shuffle_keeps_its_order():
    data = split_data(numbered(50, batch_size=8), numbered(8, batch_size=8))
    assert numbers(data.train) == sorted(numbers(data.train))


def test_a_shuffled_evaluation_loader_is_put_in_order_and_drops_nothing():
    data = split_data(numbered(50, batch_size=8), numbered(21, batch_size=8, shuffle=True, drop_last=True))
    assert numbers(data.evaluate) == list(range(21))


def test_a_custom_sampler_never_yields_held_out_samples():
    weights = torch.ones(40)
    sampler = WeightedRandomSampler(weights, num_samples=400)
    data = split_data(numbered(40, batch_size=8, sampler=sampler), numbered(8, batch_size=8))
    assert not set(numbers(data.train)) & set(numbers(data.select))
    assert len(numbers(data.train)) > 200


def test_a_custom_batch_sampler_is_filtered():
    batches = [[i, i + 1, i + 2] for i in range(0, 30, 3)]
    data = split_data(numbered(30, batch_sampler=batches), numbered(8, batch_size=8))
    assert sorted(numbers(data.train) + numbers(data.select)) == list(range(30))


def test_collation_and_batch_size_are_kept():
    def collate(samples):
        return {
            "x": torch.stack([s[0] for s in samples]) + 0.5,
            "labels": torch.stack([s[1] for s in samples]),
        }

    data = split_data(numbered(40, batch_size=9, collate_fn=collate), numbered(8, batch_size=8))
    first = next(iter(data.train))
    assert first["x"].shape == (9, 1) and float(first["x"][0]) % 1 == 0.5
    assert set(data.calibration[0]) == {"x"}


def test_a_remainder_of_one_sample_is_left_out_of_training():
    # 10 % of 37 are held out (at least a batch): what is left is 33 = 4 x 8 + 1.
    data = split_data(numbered(37, batch_size=8), numbered(8, batch_size=8), held_out=0.1)
    sizes = [len(inputs) for inputs, _ in data.train]
    assert 1 not in sizes


def test_a_list_is_split_by_batches():
    batches = [(torch.full((4, 1), float(i)), torch.zeros(4, dtype=torch.long)) for i in range(10)]
    data = split_data(batches, batches[:1])
    assert sorted(set(numbers(data.train))) + sorted(set(numbers(data.select))) != []
    assert sorted(numbers(data.train) + numbers(data.select)) == sorted(numbers(batches))
    assert len(list(data.select)) == 1


def test_one_batch_is_split_by_its_samples():
    batch = (torch.arange(20.0)[:, None], torch.zeros(20, dtype=torch.long))
    data = split_data([batch], [batch])
    assert sorted(numbers(data.train) + numbers(data.select)) == list(range(20))
    assert len(numbers(data.select)) == 2


def test_calibration_is_a_fixed_sample_of_the_training_part():
    data = split_data(numbered(300, batch_size=32, shuffle=True), numbered(8, batch_size=8), calibration=100)
    chosen = [int(v) for inputs in data.calibration for v in inputs.flatten()]
    assert len(chosen) == 100 and set(chosen) <= set(numbers(data.train))
    assert chosen != sorted(chosen)


class Augmenting(Dataset):
    def __init__(self, augment=True):
        self.augment = augment

    def plain(self):
        return Augmenting(False)

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.tensor([index + (100.0 if self.augment else 0.0)]), 0


def test_held_out_and_calibration_samples_are_not_augmented():
    loader = DataLoader(Augmenting(), batch_size=4)
    data = split_data(loader, loader)
    assert min(numbers(data.train)) >= 100
    assert max(numbers(data.select)) < 100
    assert max(int(v) for inputs in data.calibration for v in inputs) < 100


def test_the_users_generators_are_left_as_they_were():
    torch.manual_seed(7)
    random.seed(7)
    expected = torch.rand(1), random.random()
    torch.manual_seed(7)
    random.seed(7)
    data = split_data(numbered(60, batch_size=8, shuffle=True), numbered(8, batch_size=8))
    fingerprint(data)
    numbers(data.train)
    assert (torch.rand(1), random.random()) == expected


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.rand(2), 0) for _ in range(20)])


def batch(value=0.0, label=0, n=4):
    return (torch.full((n, 2), value), torch.full((n,), label, dtype=torch.long))


@pytest.mark.parametrize(
    ("train", "evaluate", "words"),
    [
        (None, [batch()], "training data are missing"),
        ([batch()], None, "evaluation data are missing"),
        ([], [batch()], "training data are empty"),
        ([batch()], [], "evaluation data are empty"),
        (7, [batch()], "must be a DataLoader or a list"),
        ((b for b in [batch()]), [batch()], "only once"),
        ([torch.zeros(3)], [batch()], "batch 0 of the training data"),
        ([{"x": torch.zeros(2)}], [batch()], "labels"),
        ([batch(float("nan"))], [batch()], "NaN"),
        ([(torch.zeros(3, 2), torch.zeros(4))], [batch()], "3 samples but 4 targets"),
        ([batch(n=1)], [batch()], "at least two"),
        (DataLoader(Stream(), batch_size=4), [batch()], "another order each time"),
    ],
)
def test_wrong_data_are_refused_in_one_line(train, evaluate, words):
    with pytest.raises(DataError, match=words) as raised:
        split_data(train, evaluate)
    assert "\n" not in str(raised.value)


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise OSError("disk gone")


def test_a_data_set_that_fails_is_told_in_one_line():
    with pytest.raises(DataError, match="reading the training data failed with OSError: disk gone"):
        split_data(DataLoader(Broken(), batch_size=2), [batch()])

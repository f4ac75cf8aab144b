"""The training loop: schedule, early stopping, and that a stopped run goes on as if it had not been stopped."""

import itertools
import math
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_run

import vampzoo
from vampzoo import optimizers, random, training
from vampzoo.errors import InvalidValue
from vampzoo.training.checkpoints import Checkpoints
from vampzoo.training.steps import ORDER

PIXEL_HVAE = tiny_run.model_config(model="pixel_hvae", image_shape=(4, 4, 1))
SQUARE_IMAGES = tiny_run.dataset(image_shape=(4, 4, 1))


def rows(folder):
    """The history without what depends on the clock."""
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in folder.read_history()]


def state(trainer):
    """Everything that decides how a training goes on."""
    trackables = (trainer.optimizer, trainer._best, trainer.early_stopping)
    variables = [v for t in trackables for v in t.variables]
    variables += [trainer.position.epoch, trainer.position.step, trainer.position.sums]
    return tiny_run.weights(trainer.model) + [np.array(v) for v in variables]


def assert_same(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = tiny_run.trainer(tmp_path_factory.mktemp("uninterrupted"))
    trainer.fit()
    return trainer


def test_history(uninterrupted):
    history = uninterrupted.folder.read_history()
    assert [int(row["epoch"]) for row in history] == [1, 2, 3, 4, 5, 6]
    assert [float(row["beta"]) for row in history] == [0.5, 1, 1, 1, 1, 1]
    for row in history:
        assert float(row["elbo"]) == pytest.approx(-float(row["distortion"]) - float(row["rate_z"]))
    assert float(history[-1]["elbo"]) > float(history[0]["elbo"])
    best = np.maximum.accumulate([float(row["validation_elbo"]) for row in history])
    np.testing.assert_array_equal([float(row["best_validation_elbo"]) for row in history], best)


def test_weights_of_the_best_epoch_are_what_load_gives(uninterrupted):
    loaded = vampzoo.load(uninterrupted.folder.path)
    assert_same(tiny_run.weights(loaded), tiny_run.weights(uninterrupted.model))
    seed = random.key(uninterrupted.config.seed, 3, uninterrupted.best_epoch)
    elbo = uninterrupted.validation_elbo(seed)["elbo"].mean()
    assert elbo == pytest.approx(uninterrupted.best_validation, rel=1e-6)


def test_best_weights_only_change_when_validation_improves(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 5.0])
    trainer = tiny_run.trainer(tmp_path, config=tiny_run.training_config(epochs=4))
    seen = []

    def scripted(seed):
        seen.append(tiny_run.weights(trainer.model))
        return {"elbo": -np.array([next(losses)])}

    monkeypatch.setattr(trainer, "validation_elbo", scripted)
    trainer.fit()
    assert trainer.best_epoch == 2
    assert_same(tiny_run.weights(trainer.model), seen[1])


IWAE = {"objective": "iwae", "objective_samples": 2, "selection": "importance_bound", "selection_samples": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"mixed_precision": "float16", "optimizer": "adam"},
        {"mixed_precision": "bfloat16", "q_dropout": 0.25, "p_dropout": 0.5},
        {"ema_momentum": 0.9, "weight_decay": 0.1, "learning_rate_decay_epochs": 6, "q_dropout": 0.5, **IWAE},
        {"shift_pixels": 1, "shift_epochs": 4},
        {"objective": "dreg", "objective_samples": 3, "one_sample_epochs": 3, "mixed_precision": "bfloat16"},
    ],
)
def test_resumed_run_is_the_uninterrupted_one(tmp_path, changes):
    assert_resumed_is_uninterrupted(tmp_path, None, changes)


@pytest.fixture
def shallow():
    with tiny_run.shallow_convolutions():
        yield


@pytest.mark.parametrize("ema_momentum", [0.0, 0.9])
def test_resumed_run_has_the_statistics_of_batch_normalisation(tmp_path, shallow, ema_momentum):
    assert_resumed_is_uninterrupted(tmp_path, PIXEL_HVAE, {"ema_momentum": ema_momentum, "epochs": 3}, SQUARE_IMAGES)


def assert_resumed_is_uninterrupted(tmp_path, model, changes, data=None):
    """A training, and one that goes on from what its folder was after two epochs: as if it had been killed then."""
    config = tiny_run.training_config(**changes)
    whole = tiny_run.trainer(tmp_path / "whole", model, config, data)
    tiny_run.copy_when_done(whole, 2, tmp_path / "parts")
    whole.fit()
    parts = tiny_run.trainer(tmp_path / "parts", model, config, data)
    assert len(rows(parts.folder)) == 2
    parts.fit()
    assert_same(state(parts), state(whole))
    assert rows(parts.folder) == rows(whole.folder)


def test_averaged_weights_get_statistics_of_their_own(tmp_path, shallow):
    """Each batch by itself gives its statistics at momentum 0; the estimate is their mean, whatever was there before."""
    config = tiny_run.training_config(batch_size=10, ema_momentum=0.9)
    trainer = tiny_run.trainer(tmp_path, PIXEL_HVAE, config, SQUARE_IMAGES)
    model, steps = trainer.model, trainer.steps
    norms = model.p_x_network.norms
    assert steps.steps_per_epoch == 4

    def statistics():
        return [np.array(v) for norm in norms for v in (norm.moving_mean, norm.moving_variance)]

    order = random.permutation(37, random.fold_in(random.key(0), ORDER, 3))
    batches = []
    momentum = norms[0].momentum
    for step in range(4):
        x, _, noise, _ = steps._global_batch(order, tf.constant(3), tf.constant(step), 1)
        for norm in norms:
            norm.momentum = 0.0
        model.elbo_terms(x, noise, training=True)
        batches.append(statistics())
        for norm in norms:
            norm.momentum = momentum
    for _ in range(2):
        steps.estimate_statistics(3)
        for actual, *each in zip(statistics(), *batches, strict=True):
            np.testing.assert_allclose(actual, np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    assert [norm.momentum for norm in norms] == [momentum] * len(norms)

    current = statistics()
    with trainer._validated_weights(4):
        averaged = statistics()
    assert not np.allclose(averaged[0], current[0])
    assert_same(statistics(), current)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_mid_epoch(tmp_path, monkeypatch, uninterrupted, number):
    trainer = tiny_run.trainer(tmp_path)
    run, calls = trainer.steps.run, []

    def run_and_signal(*args):
        calls.append(args)
        if len(calls) == 4:
            os.kill(os.getpid(), number)
        return run(*args)

    monkeypatch.setattr(trainer.steps, "run", run_and_signal)
    before = signal.getsignal(number)
    with pytest.raises(training.Interrupted) as interruption:
        trainer.fit()
    assert interruption.value.signal_number == number
    assert signal.getsignal(number) is before
    assert (trainer.epochs_done, int(trainer.position.step)) != (0, 0)

    resumed = tiny_run.trainer(tmp_path)
    resumed.fit()
    assert_same(state(resumed), state(uninterrupted))
    assert rows(resumed.folder) == rows(uninterrupted.folder)


def test_a_signal_after_the_vote_waits_for_the_next_one(tmp_path, monkeypatch):
    """Every worker acts on the votes alone: one that stopped by itself would leave the others waiting for it."""
    trainer = tiny_run.trainer(tmp_path)
    votes = []

    def gather(*vote):
        votes.append(vote)
        trainer._signals.number = signal.SIGTERM  # comes when the vote has been cast
        return np.array([vote])

    monkeypatch.setattr(trainer.workers, "gather", gather)
    trainer._last_checkpoint = 0.0
    trainer._look_up()
    with pytest.raises(training.Interrupted):
        trainer._look_up()
    assert [vote[-1] for vote in votes] == [0, signal.SIGTERM]


def test_a_finished_run_is_not_trained_again(tmp_path):
    config = tiny_run.training_config(epochs=2)
    first = tiny_run.trainer(tmp_path, config=config)
    first.fit()
    again = tiny_run.trainer(tmp_path, config=config)
    again.steps.run = None  # whoever calls it fails
    again.fit()
    assert_same(state(again), state(first))


def test_best_weights_are_written_again_if_they_are_gone(tmp_path, uninterrupted):
    config = tiny_run.training_config(epochs=2)
    tiny_run.trainer(tmp_path, config=config).fit()
    (tmp_path / "model.weights.h5").unlink()
    again = tiny_run.trainer(tmp_path, config=config)
    again.fit()
    assert_same(tiny_run.weights(vampzoo.load(tmp_path)), tiny_run.weights(again.model))


def test_an_epoch_is_the_same_however_it_is_cut(tmp_path):
    sums = []
    for cuts in ([0, 5], [0, 1, 3, 4, 5]):
        trainer = tiny_run.trainer(tmp_path / str(len(cuts)))
        total = tf.zeros([2], tf.float64)
        for first, last in itertools.pairwise(cuts):
            total = trainer.steps.run(*map(tf.constant, (1, first, last, 0.5)), total)
        sums.append([total.numpy(), *tiny_run.weights(trainer.model)])
    assert_same(*sums)


@pytest.mark.parametrize("epoch, as_with", [(1, "one"), (2, "three")])
def test_the_first_epochs_have_one_sample_and_the_others_k(tmp_path, epoch, as_with):
    three = {"objective": "iwae", "objective_samples": 3}
    results = {}
    for name, changes in {"one": {}, "three": three, "first one": {**three, "one_sample_epochs": 1}}.items():
        trainer = tiny_run.trainer(tmp_path / name, config=tiny_run.training_config(**changes))
        sums = trainer.steps.run(*map(tf.constant, (epoch, 0, 5, 0.5)), tf.zeros([2], tf.float64))
        results[name] = [sums.numpy(), *tiny_run.weights(trainer.model)]
    assert np.any(results["one"][0] != results["three"][0])
    for actual, expected in zip(results["first one"], results[as_with], strict=True):
        # Not bit for bit: the ELBO, and the bound of one sample, which is the same, are computed in different ways.
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_one_sample_epochs_need_samples_after_them():
    with pytest.raises(vampzoo.errors.InvalidValue, match="one_sample_epochs=5 needs objective_samples of at least 2"):
        tiny_run.training_config(one_sample_epochs=5)


def test_pseudo_inputs_from_data_are_spread_over_the_data(tmp_path):
    """The first rows of a user's file may all be of one class."""
    config = tiny_run.training_config(epochs=1, pseudo_inputs_from_data=True)
    trainer = tiny_run.trainer(tmp_path, config=config)
    prior, images = trainer.model.prior_layer, trainer.dataset.train
    distances = np.abs(images[:, None] - prior.raw_pseudo_inputs.numpy()[None]).reshape(len(images), -1, images[0].size)
    taken = distances.max(axis=-1).argmin(axis=0)  # of which image each pseudo-input is a noisy copy
    assert len(set(taken)) == prior.num_components
    assert set(taken) != set(range(prior.num_components))


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "iwae"},
        {"objective": "iwae", "objective_samples": 1},
        {"selection": "importance_bound"},
        {"selection": "importance_bound", "selection_samples": 1},
    ],
)
def test_a_bound_of_one_sample_is_refused(changes):
    """It is the ELBO, under a name that promises more."""
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"{name}_samples must be at least 2 for {name}={value}, got 1"):
        tiny_run.training_config(**changes)


def test_an_interrupted_epoch_keeps_its_seconds(tmp_path):
    """A signal within the first epoch: what was computed of it is in the checkpoint, and so is its time."""
    trainer = tiny_run.trainer(tmp_path, checkpoint_seconds=0)
    look_up, seconds = trainer._look_up, []

    def look_up_and_stop():
        seconds.append(trainer.seconds)
        if len(seconds) == 2:
            trainer.save()
            raise training.Interrupted(signal.SIGTERM)
        look_up()

    trainer._look_up = look_up_and_stop
    with pytest.raises(training.Interrupted):
        trainer.fit()
    assert trainer.epochs_done == 0 and 0 < seconds[0] < seconds[1]
    again = tiny_run.trainer(tmp_path)
    assert again.checkpoints.restore(print) and again.seconds == seconds[1]


@pytest.mark.parametrize(("field", "valid"), [("objective", "elbo, iwae"), ("selection", "elbo, importance_bound")])
def test_an_objective_that_does_not_exist_is_refused(field, valid):
    with pytest.raises(ValueError, match=rf"{field}='ELBO' is unknown; the valid values are: {valid}"):
        tiny_run.training_config(**{field: "ELBO"})


def test_seed_decides(tmp_path):
    runs = []
    for i, seed in enumerate((0, 1)):
        trainer = tiny_run.trainer(tmp_path / str(i), config=tiny_run.training_config(epochs=1, seed=seed))
        runs.append(tiny_run.weights(trainer.fit()))
    assert not any(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


# === Steps ===


def test_every_image_is_used_once_an_epoch_and_the_partial_batch_counts_by_its_size(tmp_path):
    trainer = tiny_run.trainer(tmp_path)
    steps, seen = trainer.steps, []
    order = random.permutation(37, random.fold_in(random.key(0), 0, 1))
    for step in range(steps.steps_per_epoch):
        x, weights, _, _ = steps._global_batch(order, tf.constant(1), tf.constant(step), 1)
        seen.append(x.numpy()[weights.numpy() == 1])
    assert [len(s) for s in seen] == [8, 8, 8, 8, 5]
    assert sorted(x.tobytes() for x in np.concatenate(seen)) == sorted(x.tobytes() for x in trainer.dataset.train)


def test_dynamic_images_are_drawn_anew_at_each_use(tmp_path):
    trainer = tiny_run.trainer(tmp_path, data=tiny_run.dataset(dynamic=True))
    order = tf.range(37)
    draws = [trainer.steps._global_batch(order, tf.constant(e), tf.constant(0), 1)[0].numpy() for e in (1, 2, 1)]
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert not np.array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[2])


def test_half_gates_are_normalised_by_themselves(tmp_path):
    """After one step Adam's first moment is a tenth of the normalised gradient: of norm 1 for every tensor."""
    trainer = tiny_run.trainer(tmp_path, model=tiny_run.model_config(model="hvae"))
    trainer.steps.run(*map(tf.constant, (1, 0, 1, 1.0)), tf.zeros([3], tf.float64))
    moments = {v.path: 10 * v.numpy() for v in trainer.optimizer.variables if "momentum" in v.path}
    gates = [m for path, m in moments.items() if "gated" in path]
    assert len(gates) == 2 * 10  # kernel and bias of each gated layer of the HVAE
    for m in gates:
        for half in np.split(m, 2, axis=-1):
            assert np.linalg.norm(half) == pytest.approx(1.0, abs=1e-2)


# === Early stopping ===


def test_early_stopping_on_a_scripted_sequence():
    early = training.EarlyStopping(patience=2, first_epochs=3)
    losses = [5.0, 6.0, 6.0, 6.0, 4.0, 4.0, 4.1, 3.9, 4.0, 4.0, 4.0]
    improved = [early.update(epoch, loss) for epoch, loss in enumerate(losses, start=1) if not early.should_stop]
    assert improved == [True, False, False, False, True, False, False, True, False, False, False]
    assert early.should_stop  # three epochs without improvement, more than the patience of two
    assert (int(early.best_epoch), float(early.best_loss)) == (8, 3.9)


def test_early_stopping_counts_from_the_last_epoch_of_the_warm_up():
    early = training.EarlyStopping(patience=0, first_epochs=3)
    stops = []
    for epoch in (1, 2, 3):
        early.update(epoch, float(epoch))
        stops.append(early.should_stop)
    assert stops == [False, False, True]


def test_training_stops_early_and_more_patience_goes_on(tmp_path, monkeypatch):
    def fit(patience):
        config = tiny_run.training_config(epochs=9, warmup_epochs=0, patience=patience)
        trainer = tiny_run.trainer(tmp_path, config=config)
        monkeypatch.setattr(trainer, "validation_elbo", lambda seed: {"elbo": -np.ones(1)})
        trainer.fit()
        return trainer.epochs_done

    assert fit(patience=1) == 3  # the first epoch, then more than one without improvement
    assert fit(patience=3) == 5


@pytest.mark.parametrize(
    "stage", [{"one_sample_epochs": 4, "objective_samples": 2}, {"shift_epochs": 4, "shift_pixels": 1}]
)
def test_training_does_not_stop_before_its_last_stage(tmp_path, monkeypatch, stage):
    config = tiny_run.training_config(epochs=9, warmup_epochs=0, patience=0, **stage)
    trainer = tiny_run.trainer(tmp_path, config=config)
    monkeypatch.setattr(trainer, "validation_elbo", lambda seed: {"elbo": -np.ones(1)})
    trainer.fit()
    assert trainer.epochs_done == 4 and trainer.best_epoch == 1


# === Not finite ===


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    trainer = tiny_run.trainer(tmp_path, checkpoint_seconds=0)
    run = trainer.steps.run

    def run_and_break(epoch, first, last, beta, sums):
        if int(epoch) == 3:
            trainer.model.trainable_weights[-1].assign(tf.fill(trainer.model.trainable_weights[-1].shape, math.nan))
        return run(epoch, first, last, beta, sums)

    monkeypatch.setattr(trainer.steps, "run", run_and_break)
    with pytest.raises(
        training.NotFinite, match=r"not finite in epoch 3, steps 0 .*checkpoints; a smaller --learning_rate"
    ):
        trainer.fit()
    resumed = tiny_run.trainer(tmp_path)
    resumed.fit()
    assert all(np.isfinite(w).all() for w in tiny_run.weights(resumed.model))
    assert resumed.epochs_done == 6


def test_nan_validation_stops(tmp_path, monkeypatch):
    trainer = tiny_run.trainer(tmp_path)
    monkeypatch.setattr(trainer, "validation_elbo", lambda seed: {"elbo": np.array([1.0, math.nan])})
    with pytest.raises(training.NotFinite, match="validation ELBO is not finite after epoch 1: nan"):
        trainer.fit()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    trainer = tiny_run.trainer(tmp_path)
    trainer.model.trainable_weights[0].assign(tf.fill(trainer.model.trainable_weights[0].shape, math.inf))
    with pytest.raises(training.NotFinite, match="weights are not finite in epoch 1"):
        trainer.save()
    assert not list(trainer.folder.path.rglob("ckpt-*"))


# === Checkpoints ===


def checkpoint(folder):
    value = tf.Variable(0.0)
    return value, Checkpoints(folder, value=value)


def two_checkpoints(folder):
    value, checkpoints = checkpoint(folder)
    for number in (1.0, 2.0):
        value.assign(number)
        checkpoints.save()


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("length", [0, 3])
def test_truncated_newest_checkpoint_falls_back_and_says_so(tmp_path, ending, length):
    two_checkpoints(tmp_path)
    os.truncate(tmp_path / f"ckpt-2.{ending}", length)
    value, checkpoints = checkpoint(tmp_path)
    said = []
    assert checkpoints.restore(said.append)
    assert float(value) == 1.0
    assert len(said) == 1 and "ckpt-2 is damaged" in said[0]
    checkpoints.save()  # takes the place of the damaged one
    value, checkpoints = checkpoint(tmp_path)
    assert checkpoints.restore(said.append) and len(said) == 1


def test_no_whole_checkpoint(tmp_path):
    two_checkpoints(tmp_path)
    for path in tmp_path.glob("*.index"):
        os.truncate(path, 5)
    _, checkpoints = checkpoint(tmp_path)
    with pytest.raises(training.RunFolderError, match=r"no checkpoint in .* can be read, .* use --overwrite"):
        checkpoints.restore(lambda text: None)


@pytest.mark.parametrize("content", [None, "", "gar\0bage"])
def test_damaged_list_of_checkpoints(tmp_path, content):
    two_checkpoints(tmp_path)
    (tmp_path / "checkpoint").unlink()
    if content is not None:
        (tmp_path / "checkpoint").write_text(content)
    value, checkpoints = checkpoint(tmp_path)
    assert checkpoints.restore(print)
    assert float(value) == 2.0


def test_damaged_checkpoint_of_a_run_costs_no_more_than_time(tmp_path, capsys, uninterrupted):
    tiny_run.trainer(tmp_path, config=tiny_run.training_config(epochs=3), checkpoint_seconds=0).fit()
    newest = max((tmp_path / "checkpoints").glob("*.index"), key=lambda p: p.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)
    resumed = tiny_run.trainer(tmp_path)
    resumed.fit()
    assert "is damaged" in capsys.readouterr().err
    assert_same(state(resumed), state(uninterrupted))
    assert rows(resumed.folder) == rows(uninterrupted.folder)


def test_only_the_clock_that_cannot_go_back_is_used(tmp_path, monkeypatch, uninterrupted):
    """The system's time may jump, by an hour backwards here, and nothing of the run changes."""
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    trainer = tiny_run.trainer(tmp_path)
    trainer.fit()
    assert_same(state(trainer), state(uninterrupted))
    assert 0 < trainer.seconds < 600


# === Mixed precision ===


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_mixed_precision(tmp_path, precision, likelihood):
    losses = {}
    for name in ("none", precision):
        trainer = tiny_run.trainer(
            tmp_path / name,
            model=tiny_run.model_config(likelihood=likelihood, weighted=True, hidden_units=32),
            config=tiny_run.training_config(epochs=1, mixed_precision=name, learning_rate=1e-3),
        )
        x, noise = trainer.dataset.validation, trainer.model.draw_noise(10, random.key(1))
        terms = trainer.model.elbo_terms(x, noise)
        losses[name] = -terms.log_weight.numpy()
        assert {t.dtype for t in (terms.distortion, *terms.rates.values())} == {tf.float32}
        dtypes = {v.dtype for v in (*trainer.model.weights, *trainer.optimizer.variables)}
        assert dtypes <= {"float32", "int64", "int32"}
        prior = trainer.model.prior()
        assert {prior.dtype, prior.log_prob(tf.zeros([1, 2])).dtype} == {tf.float32}
    model = trainer.fit()
    assert model.q_z_network.layers[-2].compute_dtype == "float32"  # as it will be loaded
    assert math.isfinite(trainer.best_validation)
    assert trainer.model.q_z_network.layers[-2].compute_dtype == precision
    difference = np.abs(losses[precision] - losses["none"])
    assert 0 < difference.mean() < 0.05 * np.abs(losses["none"]).mean()


def test_float16_scales_the_loss_and_normalises_what_is_unscaled():
    variables = [keras.Variable(np.ones(3, np.float32)) for _ in range(2)]
    scaled = optimizers.create(tiny_run.training_config(mixed_precision="float16"), variables[:1], 5)
    plain = optimizers.create(tiny_run.training_config(), variables[1:], 5)
    gradient = tf.constant(
        [3e-7, 0.0, 4e-7]
    )  # near the 1e-7 of the normalisation, which would vanish if it were scaled
    for optimizer, variable in zip((scaled, plain), variables, strict=True):
        optimizer.build([variable])
        factor = optimizer.scale_loss(tf.constant(1.0))
        assert float(factor) == (1.0 if optimizer is plain else 2.0**15)
        optimizer.apply([gradient * factor], [variable])
    moments = [o._momentums[0].numpy() for o in (scaled.inner_optimizer, plain)]
    np.testing.assert_allclose(*moments, rtol=1e-5)
    np.testing.assert_allclose(10 * moments[0], np.array([3, 0, 4]) / 6, rtol=1e-5)  # norm 5e-7, plus 1e-7
    before = variables[0].numpy()
    scaled.apply([tf.fill([3], math.inf)], [variables[0]])
    np.testing.assert_array_equal(variables[0].numpy(), before)  # the step is left out
    assert float(scaled.scale_loss(tf.constant(1.0))) == 2.0**14


def test_the_model_of_a_mixed_precision_run_keeps_what_its_prior_knows(tmp_path):
    config = tiny_run.training_config(epochs=1, mixed_precision="bfloat16", pseudo_inputs_from_data=True)
    model = tiny_run.trainer(tmp_path, config=config, pseudo_input_chunk=2).fit()
    assert (model.prior_layer.began_as_data, model.prior_layer.chunk_size) == (True, 2)


@pytest.mark.parametrize("prior", ["standard", "mog"])
def test_no_pseudo_inputs_to_start_at_data(tmp_path, prior):
    config = tiny_run.training_config(pseudo_inputs_from_data=True)
    with pytest.raises(InvalidValue, match="--pseudo_inputs_from_data is for a VampPrior"):
        tiny_run.trainer(tmp_path, tiny_run.model_config(prior=prior), config)

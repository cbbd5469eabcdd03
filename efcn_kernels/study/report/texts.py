"""The report's sentences, as far as they depend on the study; marks as in `content`."""

from __future__ import annotations

import math
from statistics import median

from efcn_kernels.study.report.claims import too_short
from efcn_kernels.study.report.compare import many, standard_error
from efcn_kernels.study.report.costs import slower
from efcn_kernels.study.report.gather import LATE, Study, mean
from efcn_kernels.study.report.numbers import comparisons, from_epoch_to_epoch

NO_FIGURE = "There are no data for this figure yet."
COUNTS = (
    "A difference counts where it is larger than two standard errors: of the test set, image by image where the study has kept "
    "each answer, and from three seeds on of the seeds too; few seeds ask for more than two, by Student's t."
)
EXACT = (
    "Before its first step: the largest difference of any of a follower's logits from its CNN's on all test images, relative to the largest logit."
)
MAIN_ALT = "Above: final test accuracy against relax time, one line for each network. Below: follower minus control"
CURVES = (
    "From the snapshot on, at the relax times above. Training losses are running means over an epoch. Grey: the CNN "
    "that was never stopped, at its own learning rate. The first, steep epochs leave the picture below."
)
UNITS = "The same unit in each network: its filter and, where there are weights around it, what grew there, on a colour scale of its own."
COST = "Weights that are stored, biases included, beside what dense matrices would hold; median time of a training epoch."
AGAIN = (
    "The numbers behind every figure lie beside this page: `epochs.csv`, `finals.csv`, `paths.csv`, and each figure as "
    "a file. The same configuration gives the same bits on the same machine with the same number of threads:"
)


def in_short(study: Study) -> list[str]:
    """The answer to the main question in a few sentences."""
    short = too_short(study)
    found = [f"Too early for verdicts: {short}."] if short else []
    rows = comparisons(study)
    for arm in study.config.relax.followers:
        own = [row for row in rows if row.arm == arm]
        gone = [run for time in study.times for run in study.of(arm, time) if run.diverged]
        if gone:
            where = ", ".join(f"from t_w = {run.task.start} after epoch {run.rows[-1]['epoch']}" for run in gone)
            found.append(f"The {arm} diverged {where}: its loss was no longer finite, so a smaller learning rate is needed.")
        if not own and not gone:
            found.append(f"Whether the {arm} beats the {study.rival} cannot be said yet: no pair of them has finished.")
        if not own:
            continue
        better, worse = (sum(row.apart.sign == sign for row in own) for sign in (1, -1))
        what = "the CNN going on from the same snapshot with the same learning rate" if "CNN" in study.config.relax.controls else "at its own end"
        last, early = _span([row.apart.value for row in own]), _span([row.best[0] - row.best[1] for row in own])
        part = f" ({len(study.times) - len(own)} more not finished)" if len(own) < len(study.times) else ""
        found.append(
            f"The {arm} ends better than the {study.rival}, {what}, at {better} of {many(len(own), 'relax time')}{part} and worse "
            f"at {worse}, by more than two standard errors: {last} percentage points of test accuracy. Had each stopped at its best "
            f"epoch, chosen on the test set: {early}."
        )
    never = list(study.final("CNN").values())
    if never:
        ends = {(row.arm, row.time): row.follower for row in rows}
        top = max(ends, key=lambda key: ends[key], default=None)
        best = f"; the best end of a follower is {100 * ends[top]:.2f} % ({top[0]} from t_w = {top[1]})" if top else ""
        found.append(f"The CNN that was never stopped has {100 * mean(never):.2f} % after {study.config.cnn.epochs} epochs{best}.")
    ratios = {arm: slower(study, arm) for arm in study.config.relax.followers}
    if any(ratios.values()):
        times = ", ".join(f"{arm} {median(values):.2f}" for arm, values in ratios.items() if values)
        found.append(f"Time of an epoch, in epochs of the CNN: {times}.")
    if len(study.config.run.seeds) < 3:
        found.append("With so few seeds a difference that is smaller than the spread of seeds cannot be told from chance.")
    return found


def _span(differences: list[float]) -> str:
    low, high = 100 * min(differences), 100 * max(differences)
    return f"{low:+.2f}" if len(differences) == 1 else f"{low:+.2f} to {high:+.2f}"


def protocol(study: Study) -> str:
    """What was trained and how."""
    cnn, relax = study.config.cnn, study.config.relax
    given = {
        "learning rate": relax.off_local_learning_rate,
        "weight decay": relax.off_local_weight_decay,
        "random start of standard deviation": relax.off_local_start or None,
    }
    other = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    off = f" (off-local weights: {other})" if other else ""
    return (
        f"A CNN was trained for {cnn.epochs} epochs by plain SGD (learning rate {cnn.learning_rate}, momentum {cnn.momentum}, weight decay "
        f"{cnn.weight_decay}, batches of {cnn.batch_size}, no augmentation, no shuffling). At each relax time t_w = "
        f"{', '.join(map(str, study.times))} its weights were taken as the start of other networks, which went on for "
        f"{relax.epochs} epochs with learning rate {relax.learning_rate}, momentum {relax.momentum}, weight decay "
        f"{relax.weight_decay}{off}. The state of the optimizer was "
        f"{'carried through the mapping' if relax.optimizer_state == 'carry' else 'reset at the mapping'}."
    )


def arms(study: Study) -> list[str]:
    """What each kind of network is."""
    follower = {
        "eLCN": "every site has its own filter; the sharing is dropped, the locality kept",
        "eFCN": "every weight is free; sharing and locality are dropped",
    }
    control = {
        "CNN": "the CNN itself going on from the same snapshot with the same learning rate, for as many epochs",
        "FCN": "the eFCN's architecture from PyTorch's default initialisation, without any CNN",
        "FCN-norms": "the eFCN's architecture drawn at random with the norms of the snapshot's eFCN",
    }
    relax = study.config.relax
    lines = [f"**{arm}**: {follower.get(arm, f'the eLCN with weights to all pixels around its windows, {arm[5:]} wide')}." for arm in relax.followers]
    return [*lines, *(f"control **{arm}**: {control[arm]}." for arm in relax.controls)]


def noise(study: Study) -> str:
    """How much of a difference is chance."""
    images = study.test_images
    latest = [run.rows[-1]["test_accuracy"] for run in study.of("CNN") if run.rows and run.rows[-1]["test_accuracy"] is not None]
    p = mean(latest) if latest else 0.5
    error = 100 * standard_error(p, images)
    swing = from_epoch_to_epoch(study)
    moves = (
        "From one epoch to the next, over the last {} of a training, the accuracy moves by {:.2f} points (standard deviation, "
        "the median of the trainings). "
    )
    return (
        f"Accuracies are those of the last epoch, on {images:,} test images. On as many others an accuracy p would differ by "
        f"about sqrt(p (1 - p) / n) = sqrt({p:.2f} · {1 - p:.2f} / {images:,}) = {error:.2f} percentage points (one standard "
        f"error), the difference of two independent networks by sqrt(2) times that, {math.sqrt(2) * error:.2f}. Networks that have "
        "finished are compared image by image, which is sharper: an image that both get right, or both wrong, says nothing of a "
        f"difference (McNemar 1947). {'' if swing is None else moves.format(LATE, 100 * swing)}{_few(study)}"
    )


def _few(study: Study) -> str:
    count = len(study.config.run.seeds)
    if count == 1:
        return (
            "There is one seed, so there are no bands: how much other initial weights would change is not known, and a "
            "difference that is smaller than the spread of seeds cannot be told from chance."
        )
    if count == 2:
        return "There are two seeds; bands show both, but two are too few for a standard error of seeds."
    return f"There are {count} seeds; bands show their range."


def missing(study: Study) -> str:
    """How much of the study there is."""
    done = sum(run.finished for run in study.runs)
    return (
        f"**Not everything is here.** {done} of {len(study.runs)} trainings have finished; verdicts use these alone, "
        "and figures mark as not finished, with the epoch reached, what else they show."
    )


def main(study: Study) -> str:
    """Below the main figure."""
    if "CNN" in study.config.relax.controls:
        text = "A follower beats its CNN only where it lies above the control, which had the same start, data, learning rate and number of epochs."
    else:
        cnn, relax = study.config.cnn, study.config.relax
        text = (
            f"There is no control in this study: the CNN that was never stopped had {cnn.epochs} epochs with learning rate "
            f"{cnn.learning_rate}, a follower t_w of them and {relax.epochs} with {relax.learning_rate}."
        )
    gone = " What diverged has no point here, only its curves below." if any(run.diverged for run in study.runs) else ""
    return (
        f"Above: test accuracy at the last epoch against the relax time t_w. {text} Below: the follower's accuracy minus that of "
        f"the {study.rival}; bars are two standard errors, so a bar that does not touch zero is a difference that counts. What "
        f"has not finished is hollow, with its epoch, from a tenth of its epochs on.{gone}"
    )


def comparison(study: Study) -> str:
    """Below the table of comparisons."""
    return (
        f"Difference: at the last epoch, with one standard error. Last epochs: difference of the medians over the last {LATE} "
        "epochs, in points; where it tells another story, the last epoch was a lucky or an unlucky one. Best epochs: the highest accuracy of any "
        f"epoch, follower / {study.rival}; it is chosen on the test set itself, so both are too good, and no verdict uses it."
    )


def deviations(study: Study) -> str:
    """Below the deviations."""
    sharing = "Sharing deviation: the spread of each filter tap over the sites, relative to its size"
    if study.config.relax.followers == ("eLCN",):
        return f"{sharing}. It is zero in a CNN and 1 where nothing is shared."
    return f"Locality deviation: the norm of the off-local over that of all weights (live weights only). {sharing}. Both are zero in a CNN."


def distances(study: Study) -> str:
    """Below the distances."""
    threshold = " If there is a threshold distance past which a network is no better than an FCN, points to its right lie on the FCN's line."
    return "Each follower at its end." + (threshold if study.of("FCN") else "")


def masked_title(study: Study) -> str:
    """Whether there are off-local weights."""
    return "How good is the nearest CNN?" if study.config.relax.followers == ("eLCN",) else "What do local and off-local weights do?"


def masked(study: Study) -> str:
    """Below the masked accuracies."""
    if study.config.relax.followers == ("eLCN",):
        return "Test accuracy at the end, and of the nearest CNN: at every site the mean over all sites of each filter tap."
    return (
        "Test accuracy at the end with a part of the weights at zero, and of the nearest CNN (the mean over sites of each tap, "
        "off-local weights dropped)."
    )


def paths(study: Study) -> str:
    """Below the ways."""
    start = "control CNN's end" if "CNN" in study.config.relax.controls else "snapshot"
    return (
        f"From the {start} to the follower's end, in the follower's space: straight, with norm and direction apart, along a "
        "string relaxed under the loss, and averaging outputs; on the first "
        f"{study.config.measure.path_images:,} images of each set, or on all of a smaller one. A hump in the loss is a barrier between two minima."
    )


def ranks(study: Study) -> str:
    """Above the ranks."""
    return (
        f"Singular values and ranks of each layer's whole matrix at the end, t_w = {study.middle}. Stable rank: Σσ² / σ₁². "
        "Participation rank: (Σσ²)² / Σσ⁴."
    )

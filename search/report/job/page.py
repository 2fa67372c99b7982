"""The page on one job: what its owner asks, first things first, in one file."""

from collections.abc import Sequence

from search.commands import command, storage_options
from search.errors import UserError
from search.report.job import svg
from search.report.job.advice import advice
from search.report.job.board import costs, data, leaderboard, leaders
from search.report.job.html import Figure, Html, Section, render, text
from search.report.job.on_test import on_test
from search.report.job.parameters import parameters
from search.report.job.progress import best_so_far, learning_curves
from search.report.job.style import STYLE
from search.report.job.view import StudyView, view_of
from search.report.page import POLICY
from search.report.statistics import counted
from search.storage import Storage
from search.study import Study

PAGE = "report.html"


def job_files(studies: Sequence[Study], storage: Storage, *, figures: bool = False) -> dict[str, bytes]:
    """The page on a job, finished or not, by its name.

    Args:
        figures: each figure as an SVG file too.

    Raises:
        UserError: no study has a trial yet.
    """
    job = studies[0].job
    if not any(study.trials() for study in studies):
        again = command("resume", job, *storage_options(storage))
        raise UserError(f"nothing to report: {job} has no trial yet. `{again}` goes on with it.")
    views = [view_of(study, storage) for study in studies]
    parts = {view.name: sections(view) for view in views}
    files = {PAGE: page(job, views, parts, storage).encode()}
    for view in views if figures else ():
        for part in (part for section in parts[view.name] for part in section.parts):
            if isinstance(part, Figure):
                name = f"{view.task}.{view.method}.{part.key}.svg" if len(views) > 1 else f"{part.key}.svg"
                files[name] = svg.as_file(part.drawing)
    return files


def sections(view: StudyView) -> list[Section]:
    """What is said of a study, in the order in which it is asked."""
    return [
        *leaders(view),
        best_so_far(view),
        parameters(view),
        learning_curves(view),
        on_test(view),
        costs(view),
        data(view),
    ]


def page(job: str, views: Sequence[StudyView], parts: dict[str, list[Section]], storage: Storage) -> str:
    """The whole page."""
    body = [render(leaderboard(views), 2, "leaderboard")]
    links = ["<li><a href='#leaderboard'>Leaderboard</a></li>"]
    for place, view in enumerate(views, start=1):
        anchor = f"study-{place}"
        links.append(f"<li><a href='#{anchor}'>{text(view.name)}</a></li>")
        inner = "".join(
            render(section, 3, f"{anchor}-{number}")
            for number, section in enumerate(parts[view.name], start=1)
        )
        body.append(
            f"<section aria-labelledby='{anchor}'><h2 id='{anchor}'>{text(view.name)}</h2>{inner}</section>"
        )
    body.append(render(advice(views, job, storage), 2, "next"))
    links.append("<li><a href='#next'>What to try next</a></li>")
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{text(job)}: report</title>\n<style>{STYLE}{svg.STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{text(job)}</h1><p>{_summary(views)}</p></header>\n"
        f"<nav aria-label='Contents'><ul>{''.join(links)}</ul></nav>\n<main>\n"
        + "".join(body)
        + "</main>\n</body>\n</html>\n"
    )


def _summary(views: Sequence[StudyView]) -> Html:
    facts = views[0].facts
    encoder = f"{facts.encoder}, " if facts.encoder else ""
    trials = sum(len(view.trials) for view in views)
    done = sum(view.winner is not None for view in views)
    state = "" if done == len(views) else f" Finished: {done} of {len(views)}."
    return text(
        f"Encoder: {encoder}{facts.backbone_parameters:,} parameters, frozen. "
        f"{counted(len(views), 'study')} (a task with a method), {counted(trials, 'trial')}.{state} "
        "Validation chose; test was read once, by the winners."
    )

"""Writes a study as a page, as Markdown and as json, with its plots and pictures beside it."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.comparison import Study, detail, headlines, main_part
from eval.report import cautions, contents, wording
from eval.report.contents import Report
from eval.report.gallery import data_address
from eval.report.page_markdown import PUBLISHED, markdown
from eval.report.record import body

OPEN_GALLERIES = 6  # with more comparisons the page shows flipped answers on a click


def write_report(study: Study, output: Path, title: str) -> Report:
    """Write report.html, report.md, report.json, gains.png, category plots and pictures."""
    report = contents.gather(study, output, title)
    (output / "report.html").write_text(page(report), encoding="utf-8")
    (output / "report.md").write_text(markdown(report), encoding="utf-8")
    text = json.dumps(body(report), ensure_ascii=False, indent=1, allow_nan=False)
    (output / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def page(report: Report) -> str:
    """One html file that needs no other: plots and pictures are inside it. Answers are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparisons = sum(len(section.comparisons) for section in report.study.sections)
    plots = {name: data_address(path) for name, path in report.category_plots.items()}
    return environment.get_template("page.html.jinja").render(
        report=report,
        study=report.study,
        gains=data_address(report.gains) if report.gains else None,
        category_plots=plots,
        open_galleries=comparisons <= OPEN_GALLERIES,
        published=PUBLISHED,
        words=wording,
        cautions=cautions,
        contents=contents,
        headlines=headlines,
        main_part=main_part,
        detail=detail,
    )

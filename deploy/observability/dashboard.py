#!/usr/bin/env python3
"""Writes dashboard.json, a Grafana dashboard of the filter and its sidecars.

    .tools/venv/bin/python deploy/observability/dashboard.py           # writes it
    .tools/venv/bin/python deploy/observability/dashboard.py --check   # fails if it is not what this file says

Panels are made with Grafana's own library, whose types come from the schema of dashboards. docs/metrics.md has every
metric.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import Dashboard, DataSourceRef

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# The width of the grid is 24.
THIRD, HALF, QUARTER = 8, 12, 6


def targets(panel, queries):
    for number, (query, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + number))
        panel.with_target(target.datasource(SOURCE))
    return panel


def graph(title, help_text, unit, queries, span=HALF):
    legend = VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(
        LegendPlacement.BOTTOM
    )
    panel = timeseries.Panel().title(title).description(help_text).datasource(SOURCE).unit(unit).min(0)
    return targets(panel.legend(legend).fill_opacity(10).span(span).height(8), queries)


def number(title, help_text, unit, query):
    panel = stat.Panel().title(title).description(help_text).datasource(SOURCE).unit(unit)
    return targets(panel.span(QUARTER).height(4), [(query, "")])


def rate(metric, by, where=""):
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


def quantile(part, metric, where=""):
    return f"histogram_quantile({part}, sum by (le) (rate({metric}_bucket{where}[$__rate_interval])))"


def build():
    requests, refusals = "llm_rate_limit_requests", "llm_rate_limit_refusals"
    tokens, errors = "llm_rate_limit_tokens", "llm_rate_limit_estimate_error_tokens"
    reserve, charged = '{call="reserve"}', '{kind=~"input|output"}'
    wrong, counted = rate(errors, "direction, family"), rate(tokens, "family", '{kind="input"}')
    over = '{decision="over_limit"}'
    board = (
        dashboard.Dashboard("LLM rate limits")
        .uid("llm-rate-limit")
        .tags(["envoy", "llm", "rate-limit"])
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    board.with_panel(
        number("Requests", "A second, whatever was decided.", "reqps", f"sum(rate({requests}[$__rate_interval]))")
    ).with_panel(
        number(
            "Over a limit",
            "The part that was answered 429.",
            "percentunit",
            f"sum(rate({requests}{over}[$__rate_interval])) / sum(rate({requests}[$__rate_interval]))",
        )
    ).with_panel(
        number("Tokens", "A second, as charged.", "short", f"sum(rate({tokens}{charged}[$__rate_interval]))")
    ).with_panel(
        number("Workers without a store", "0 where all is well.", "short", "sum(llm_rate_limit_workers_without_store)")
    )
    board.with_row(dashboard.Row("Who"))
    board.with_panel(
        graph("Requests by decision", "What was decided.", "reqps", [(rate(requests, "decision"), "{{decision}}")])
    ).with_panel(
        graph("Requests by plan", "Those without a plan have none.", "reqps", [(rate(requests, "plan"), "{{plan}}")])
    ).with_panel(
        graph(
            "Refusals by limit",
            "Whose limit refused, what it limits, and its window.",
            "reqps",
            [(rate(refusals, "owner, metric, window"), "{{owner}} {{metric}} {{window}}")],
        )
    ).with_panel(
        graph(
            "Refused for what they are, and not limited",
            "By reason.",
            "reqps",
            [
                (rate("llm_rate_limit_refused", "reason"), "refused: {{reason}}"),
                (rate("llm_rate_limit_not_limited", "reason"), "not limited: {{reason}}"),
            ],
        )
    )
    board.with_row(dashboard.Row("Tokens"))
    board.with_panel(
        graph(
            "Tokens by family",
            "As charged, weights applied.",
            "short",
            [(rate(tokens, "family, kind", charged), "{{family}} {{kind}}")],
            THIRD,
        )
    ).with_panel(
        graph(
            "Prompts counted wrongly",
            "The part of reported prompt tokens by which counts were over or under.",
            "percentunit",
            [(f"{wrong} / on (family) group_left () {counted}", "{{family}} {{direction}}")],
            THIRD,
        )
    ).with_panel(
        graph(
            "What charges rest on",
            "Settled requests: reported, counted, failed or unknown.",
            "reqps",
            [(rate("llm_rate_limit_settled", "outcome"), "{{outcome}}")],
            THIRD,
        )
    )
    board.with_row(dashboard.Row("Store"))
    board.with_panel(
        graph(
            "Calls to the sidecar",
            "Reservations, from the filter to its answer. store.timeout_ms bounds them.",
            "ms",
            [(quantile(part, "llm_rate_limit_callout_ms", reserve), f"p{int(part * 100)}") for part in (0.5, 0.99)],
            THIRD,
        )
    ).with_panel(
        graph(
            "Round trips of Redis",
            "As the sidecars see them.",
            "s",
            [(quantile(part, "llm_rate_limit_sidecar_redis_seconds"), f"p{int(part * 100)}") for part in (0.5, 0.99)],
            THIRD,
        )
    ).with_panel(
        graph(
            "Requests in a call",
            "The more come together, the less each costs.",
            "short",
            [(quantile(part, "llm_rate_limit_batch_size", reserve), f"p{int(part * 100)}") for part in (0.5, 0.99)],
            THIRD,
        )
    ).with_panel(
        graph(
            "Without the store",
            "Decided by this Envoy's share, or reservations without an answer; settlements that were lost.",
            "reqps",
            [
                ("sum(rate(llm_rate_limit_decided_locally[$__rate_interval]))", "decided locally"),
                ("sum(rate(llm_rate_limit_store_errors[$__rate_interval]))", "no answer"),
                ("sum(rate(llm_rate_limit_settlements_dropped[$__rate_interval]))", "settlements dropped"),
                ("sum(rate(llm_rate_limit_settlements_refused[$__rate_interval]))", "settlements refused"),
            ],
            THIRD,
        )
    ).with_panel(
        graph(
            "Under way",
            "Requests that the filter knows, those that wait until they fit, and calls in the sidecars.",
            "short",
            [
                ("sum(llm_rate_limit_contexts)", "requests"),
                ("sum(llm_rate_limit_waiting)", "waiting"),
                ("sum(llm_rate_limit_sidecar_queue_depth)", "calls"),
            ],
            THIRD,
        )
    ).with_panel(
        graph(
            "Workers by configuration",
            "More than one hash is a rollout, or a configuration that some have rejected.",
            "short",
            [("sum by (hash) (llm_rate_limit_config_info)", "{{hash}}")],
            THIRD,
        )
    )
    return board.build()


def main():
    text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
    # What the schema does not know does not survive its own reader.
    read = json.dumps(Dashboard.from_json(json.loads(text)), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
    if read != text:
        sys.exit("dashboard.json: has members that Grafana's schema does not know")
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text(encoding="utf-8") != text:
            sys.exit("dashboard.json: not what dashboard.py writes: run dashboard.py")
    else:
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

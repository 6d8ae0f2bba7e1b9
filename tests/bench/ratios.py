"""The ratios that the pictures show."""

from __future__ import annotations

from runs import MEASURES, TEXTS

Values = dict[str, float]
Ratios = dict[str, dict[str, float]]


def ratios(results: dict[str, Values]) -> Ratios:
    """Return how many times better than naive each other server is, for each row of the picture."""
    naive = results["naive"]
    return {
        short(row.title): {
            name: row.ratio(values[row.key], naive[row.key])
            for name, values in results.items()
            if name != "naive"
        }
        for row in MEASURES
        if row.drawn and row.key in naive
    }


def gzip_ratios(values: Values) -> Ratios:
    """Return how many times better compressed streams are than plain ones, for each text."""

    def ratio(text: str, key: str) -> float:
        return values[f"P {text} {key}"] / values[f"P {text} gzip {key}"]

    return {
        short(title): {
            "bytes": ratio(text, "wire"),
            "packets": ratio(text, "packet"),
            "CPU": 1 / ratio(text, "cpu"),
        }
        for text, title in TEXTS.items()
        if f"P {text} wire" in values and f"P {text} gzip wire" in values
    }


def short(title: str) -> str:
    """Return a title that has room in the picture."""
    title = title.partition(", ")[0].replace("waiting ", "")
    return title.replace("accepted per second", "a second")

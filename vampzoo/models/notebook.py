"""What a notebook shows of a model."""

import base64
import html
import io

from vampzoo import figures

NUM_IMAGES = 32


def as_html(model):
    """Name, data, likelihood and the rest of a model's description, and a grid of its samples, as HTML.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
    """
    picture = io.BytesIO()
    figures.save_grid(picture, model.sample(NUM_IMAGES), columns=16, scale=2)
    encoded = base64.b64encode(picture.getvalue()).decode()
    data = f", trained on {model.trained_on}" if model.trained_on else ""
    return (
        f"<p><b>{html.escape(model.title or model.name)}</b>{html.escape(data)}<br>{html.escape(model.describe())}</p>"
        f'<img alt="samples" src="data:image/png;base64,{encoded}">'
    )

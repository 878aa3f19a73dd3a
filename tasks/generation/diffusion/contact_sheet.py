"""Pictures side by side, for people."""

import io
import textwrap


def contact_sheet(rows, captions, cell=88, across=10):
    """The bytes of a PNG: rows of pictures below each other, a column for each caption.

    rows: name → pictures, [N, C, H, W] in [0, 1].
    captions: N texts.
    cell: the side of a picture in the sheet, in pixels.
    across: how many columns are side by side; the others follow in bands below.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, gap, head = ImageFont.load_default(), 4, 40
    captions = [textwrap.fill(caption, 14) for caption in captions]
    bands = [range(start, min(start + across, len(captions))) for start in range(0, len(captions), across)]
    high = head + len(rows) * (cell + gap)
    sheet = Image.new("RGB", (70 + len(bands[0]) * (cell + gap), len(bands) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for band, columns in enumerate(bands):
        for line, (name, pictures) in enumerate(rows.items()):
            y = band * high + head + line * (cell + gap)
            draw.text((4, y + cell / 2 - 6), name, "black", font)
            for column, number in enumerate(columns):
                x = 70 + column * (cell + gap)
                pixels = (pictures[number] * 255).round().byte().permute(1, 2, 0).squeeze(-1).cpu().numpy()
                sheet.paste(Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST), (x, y))
                if not line:
                    draw.multiline_text((x, band * high + 2), captions[number], "black", font, spacing=0)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()

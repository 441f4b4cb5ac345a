// Package plot draws the figures of fitted models as SVG or PNG, with gonum/plot.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	_ "gonum.org/v1/plot/vg/vgimg" // PNG
	_ "gonum.org/v1/plot/vg/vgsvg" // SVG

	"tare/engine/checkpoint"
	"tare/lab/fitting"
)

// colours tell lines apart, also to most who see few (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255}, color.RGBA{230, 159, 0, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{90, 90, 90, 255},
}

func colour(i int) color.Color { return colours[i%len(colours)] }

// Formats are the file formats that Write knows.
func Formats() []string { return []string{"svg", "png"} }

// Write draws a figure into a folder, as its name with the format as extension, whole or
// not at all, and returns the path.
func Write(dir string, f fitting.Figure, format string) (string, error) {
	raw, err := Draw(f, format)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, f.Name+"."+format)
	return path, checkpoint.WriteBytes(path, raw)
}

// Draw returns the figure's file.
func Draw(f fitting.Figure, format string) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.Title.Padding = f.Title, vg.Points(6)
	p.X.Label.Text, p.Y.Label.Text = f.X, f.Y
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	for _, s := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		s.Variant, s.Size = "Sans", 9
	}
	p.Title.TextStyle.Font.Size = 11
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	var err error
	width, height := 6*vg.Inch, 4*vg.Inch
	switch {
	case f.Grid != nil:
		height = width
		err = shades(p, f.Grid)
	case f.Labels != nil:
		height = max(2*vg.Inch, vg.Length(len(f.Labels)+4)*0.2*vg.Inch)
		err = inRows(p, f)
	default:
		err = onAxes(p, f)
	}
	if err != nil {
		return nil, fmt.Errorf("plot: %s: %w", f.Name, err)
	}
	if named(f) > 4 { // room for the legend
		if width += vg.Inch; f.LogX {
			p.X.Max *= math.Pow(p.X.Max/p.X.Min, 0.35)
		} else {
			p.X.Max += 0.35 * (p.X.Max - p.X.Min)
		}
	}
	if f.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if f.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	to, err := p.WriterTo(width, height, strings.ToLower(format))
	if err != nil {
		return nil, fmt.Errorf("plot: %s: %w", f.Name, err)
	}
	var out bytes.Buffer
	if _, err := to.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("plot: %s: %w", f.Name, err)
	}
	return out.Bytes(), nil
}

// named counts the entries of a legend.
func named(f fitting.Figure) int {
	n := 0
	for _, s := range slices.Concat(f.Lines, f.Dots) {
		if s.Name != "" {
			n++
		}
	}
	return n
}

// ticks are gonum's, with as many digits as tell them apart.
type ticks struct{}

// Ticks implements plot.Ticker.
func (ticks) Ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i := range all {
		if all[i].Label != "" {
			v := all[i].Value
			if math.Abs(v) < 1e-9*(high-low) {
				v = 0
			}
			all[i].Label = strconv.FormatFloat(v, 'g', 5, 64)
		}
	}
	return all
}

// onAxes draws lines and dots.
func onAxes(p *plot.Plot, f fitting.Figure) error {
	for i, s := range f.Lines {
		l, err := plotter.NewLine(points(s))
		if err != nil {
			return err
		}
		l.Color, l.Width = colour(i), vg.Points(1.5)
		if s.Dashed {
			l.Color, l.Dashes = color.Gray{110}, []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(l)
		if s.Name != "" {
			p.Legend.Add(s.Name, l)
		}
	}
	for i, s := range f.Dots {
		dots, err := plotter.NewScatter(points(s))
		if err != nil {
			return err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: colour(i), Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
		if s.Low != nil {
			bars, err := plotter.NewYErrorBars(struct {
				plotter.XYer
				plotter.YErrorer
			}{points(s), ends(s, s.Y)})
			if err != nil {
				return err
			}
			bars.Color = colour(i)
			p.Add(bars)
		}
		p.Add(dots)
		if s.Name != "" {
			p.Legend.Add(s.Name, dots)
		}
	}
	return nil
}

// inRows draws dots with bars to the sides, a labelled row each, the first at the top.
func inRows(p *plot.Plot, f fitting.Figure) error {
	n := len(f.Labels)
	names := make([]string, n)
	for i, l := range f.Labels {
		names[n-1-i] = l
	}
	for i, s := range f.Dots {
		at := s
		at.Y = make([]float64, len(s.Y))
		for q, y := range s.Y {
			at.Y[q] = float64(n-1) - y
		}
		dots, err := plotter.NewScatter(points(at))
		if err != nil {
			return err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: colour(i), Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
		if s.Low != nil {
			e := ends(s, s.X)
			bars, err := plotter.NewXErrorBars(struct {
				plotter.XYer
				plotter.XErrorer
			}{points(at), plotter.XErrors(e)})
			if err != nil {
				return err
			}
			bars.Color = colour(i)
			p.Add(bars)
		}
		p.Add(dots)
	}
	p.NominalY(names...)
	return nil
}

func points(s fitting.Series) plotter.XYs {
	out := make(plotter.XYs, len(s.X))
	for i := range s.X {
		out[i].X, out[i].Y = s.X[i], s.Y[i]
	}
	return out
}

// ends are the lengths of bars below and above values.
func ends(s fitting.Series, at []float64) plotter.YErrors {
	out := make(plotter.YErrors, len(at))
	for i, v := range at {
		out[i].Low, out[i].High = math.Max(0, v-s.Low[i]), math.Max(0, s.High[i]-v)
	}
	return out
}

// shades draws a grid: blue below 0, red above, white at 0, the number in each field
// where there is room.
func shades(p *plot.Plot, g *fitting.Grid) error {
	rows, columns := len(g.Rows), len(g.Columns)
	for a := range rows {
		for b := range columns {
			x, y := float64(b), float64(rows-1-a)
			field, err := plotter.NewPolygon(plotter.XYs{{X: x - .5, Y: y - .5}, {X: x + .5, Y: y - .5}, {X: x + .5, Y: y + .5}, {X: x - .5, Y: y + .5}})
			if err != nil {
				return err
			}
			field.Color, field.LineStyle.Width = shade(g.Values[a][b]), 0
			p.Add(field)
		}
	}
	if rows <= 15 && columns <= 15 {
		if err := numbers(p, g); err != nil {
			return err
		}
	}
	names := make([]string, rows)
	for i, r := range g.Rows {
		names[rows-1-i] = r
	}
	p.NominalX(g.Columns...)
	p.NominalY(names...)
	p.X.Tick.Label.Rotation = math.Pi / 4
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YCenter
	return nil
}

func numbers(p *plot.Plot, g *fitting.Grid) error {
	var l plotter.XYLabels
	for a, row := range g.Values {
		for b, v := range row {
			if a == b && g.Rows[a] == g.Columns[b] {
				continue
			}
			l.XYs = append(l.XYs, plotter.XY{X: float64(b), Y: float64(len(g.Rows) - 1 - a)})
			l.Labels = append(l.Labels, fmt.Sprintf("%.2f", v))
		}
	}
	labels, err := plotter.NewLabels(l)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Variant, labels.TextStyle[i].Font.Size = "Sans", 9
		labels.TextStyle[i].XAlign, labels.TextStyle[i].YAlign = draw.XCenter, draw.YCenter
	}
	p.Add(labels)
	return nil
}

// shade mixes white with a colour by size.
func shade(v float64) color.Color {
	v = math.Max(-1, math.Min(1, v))
	to := [3]float64{213, 94, 0}
	if v < 0 {
		to, v = [3]float64{0, 114, 178}, -v
	}
	mix := func(c float64) uint8 { return uint8(255 + v*(c-255)) }
	return color.RGBA{mix(to[0]), mix(to[1]), mix(to[2]), 255}
}

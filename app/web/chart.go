package web

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The size of a chart in its own units, which are pixels where there is room.
const (
	chartWidth  = 760
	lineHeight  = 300
	marginRight = 16
	marginTop   = 12
	marginBelow = 44 // ticks and the axis title
	letter      = 6.8
)

// XY is a point in the units of a chart's axes.
type XY struct{ X, Y float64 }

// Series is one line of a chart or one row of dots: a name and one or more runs of
// it.
type Series struct {
	Name string
	Runs [][]XY
}

// LineChart draws series over a common pair of axes. Each run is a thin line; where
// a series has several, a thick line is their mean at the places that all have.
type LineChart struct {
	Caption      string
	XName, YName string
	Series       []Series
}

// most is how many points of a line are drawn; of a longer one every nth is.
const most = 400

// frame maps the units of two axes to the pixels of a chart.
type frame struct {
	x, y                     scale
	left, right, top, bottom float64
}

func (f frame) px(v float64) float64 { return f.left + (f.right-f.left)*f.x.at(v) }
func (f frame) py(v float64) float64 { return f.bottom - (f.bottom-f.top)*f.y.at(v) }

// scale is a stretch of an axis that begins and ends at a tick.
type scale struct {
	lo, hi float64
	step   float64
}

func (s scale) at(v float64) float64 { return (v - s.lo) / (s.hi - s.lo) }

// newScale returns the scale around [lo, hi] whose ticks lie 1, 2 or 5 times a
// power of ten apart, at most about n of them.
func newScale(lo, hi float64, n int) scale {
	if !(hi > lo) { // one value: a stretch around it
		pad := max(math.Abs(lo)*0.05, 1e-9)
		lo, hi = lo-pad, lo+pad
	}
	raw := (hi - lo) / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := power * 10
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*(1-1e-9) {
			step = m * power
			break
		}
	}
	return scale{lo: math.Floor(lo/step+1e-9) * step, hi: math.Ceil(hi/step-1e-9) * step, step: step}
}

// ticks returns the tick values from lo to hi; lo is one.
func (s scale) ticks() []float64 {
	n := int(math.Floor((s.hi-s.lo)/s.step + 1e-9))
	out := make([]float64, n+1)
	for i := range out {
		out[i] = s.lo + float64(i)*s.step
	}
	return out
}

// label writes a tick with the places that the step needs.
func (s scale) label(v float64) string {
	if math.Abs(v) < s.step*1e-6 {
		v = 0
	}
	if m := max(math.Abs(s.lo), math.Abs(s.hi)); m >= 1e6 || m < 1e-4 {
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	return strconv.FormatFloat(v, 'f', min(8, decimals(s.step, 1)), 64)
}

// drawing collects the elements of an SVG.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// label puts text at a place; anchor is start, middle or end.
func (d *drawing) label(x, y float64, anchor, class, text string) {
	d.add(`<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, px(x), px(y), anchor, class, template.HTMLEscapeString(text))
}

// done wraps the elements in an svg of that height.
func (d *drawing) done(height float64, title string) template.HTML {
	return d.sized(chartWidth, height, title)
}

func (d *drawing) sized(width, height float64, title string) template.HTML {
	return template.HTML(fmt.Sprintf("<svg class=\"chart\" viewBox=\"0 0 %s %s\" role=\"img\" aria-label=\"%s\">\n%s</svg>\n",
		px(width), px(height), template.HTMLEscapeString(title), d.String()))
}

// px writes a coordinate to a tenth of a pixel.
func px(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// textWidth is about how wide a label is.
func textWidth(s string) float64 { return letter * float64(len([]rune(s))) }

// axes draws the frame, its grid and its labels.
func (d *drawing) axes(f frame, xName, yName string, rowLines bool) {
	for _, v := range f.x.ticks() {
		x := f.px(v)
		d.add(`<line class="grid" x1="%s" y1="%s" x2="%s" y2="%s"/>`, px(x), px(f.top), px(x), px(f.bottom))
		d.label(x, f.bottom+16, "middle", "tick", f.x.label(v))
	}
	if rowLines {
		for _, v := range f.y.ticks() {
			y := f.py(v)
			d.add(`<line class="grid" x1="%s" y1="%s" x2="%s" y2="%s"/>`, px(f.left), px(y), px(f.right), px(y))
			d.label(f.left-6, y+4, "end", "tick", f.y.label(v))
		}
	}
	d.frameNames(f, xName, yName)
}

// frameNames draws the two axes and their names.
func (d *drawing) frameNames(f frame, xName, yName string) {
	d.add(`<path class="axis" d="M%s %sV%sH%s"/>`, px(f.left), px(f.top), px(f.bottom), px(f.right))
	d.label((f.left+f.right)/2, f.bottom+36, "middle", "name", xName)
	if yName != "" {
		x, y := 14.0, (f.top+f.bottom)/2
		d.add(`<text x="%s" y="%s" text-anchor="middle" class="name" transform="rotate(-90 %s %s)">%s</text>`,
			px(x), px(y), px(x), px(y), template.HTMLEscapeString(yName))
	}
}

// frame returns the frame that all points fit in.
func (c LineChart) frame() (frame, bool) {
	xs, ys := extent{}, extent{}
	for _, s := range c.Series {
		for _, run := range s.Runs {
			for _, p := range run {
				xs.add(p.X)
				ys.add(p.Y)
			}
		}
	}
	if !xs.any {
		return frame{}, false
	}
	f := frame{x: newScale(xs.lo, xs.hi, 8), y: newScale(ys.lo, ys.hi, 6),
		right: chartWidth - marginRight, top: marginTop, bottom: lineHeight - marginBelow}
	var widest float64
	for _, v := range f.y.ticks() {
		widest = max(widest, textWidth(f.y.label(v)))
	}
	f.left = 28 + widest
	// The last step is where the data ends; half an axis of nothing would mislead.
	f.x.hi = max(xs.hi, f.x.lo+f.x.step*math.Floor((xs.hi-f.x.lo)/f.x.step+1e-9))
	return f, true
}

func (c LineChart) markup() template.HTML {
	f, ok := c.frame()
	if !ok {
		return ""
	}
	var d drawing
	d.axes(f, c.XName, c.YName, true)
	for i, s := range c.Series {
		for _, run := range s.Runs {
			class := "thin"
			if len(s.Runs) == 1 {
				class = "mean"
			}
			d.line(f, run, class, i)
		}
	}
	for i, s := range c.Series { // means lie above all runs
		if len(s.Runs) > 1 {
			d.line(f, meanRun(s.Runs), "mean", i)
		}
	}
	return figure(c.Caption, legend(c.Series), d.done(lineHeight, c.Caption))
}

// line draws one run in the colour of series i.
func (d *drawing) line(f frame, run []XY, class string, i int) {
	run = thinned(run)
	if len(run) == 0 {
		return
	}
	if len(run) == 1 {
		d.add(`<circle class="dot %s" cx="%s" cy="%s" r="3"/>`, colour(i), px(f.px(run[0].X)), px(f.py(run[0].Y)))
		return
	}
	points := make([]string, len(run))
	for k, p := range run {
		points[k] = px(f.px(p.X)) + "," + px(f.py(p.Y))
	}
	d.add(`<polyline class="%s %s" points="%s"/>`, class, colour(i), strings.Join(points, " "))
}

// thinned keeps every nth point and the last.
func thinned(run []XY) []XY {
	if len(run) <= most {
		return run
	}
	n := (len(run) + most - 1) / most
	var out []XY
	for i := 0; i < len(run)-1; i += n {
		out = append(out, run[i])
	}
	return append(out, run[len(run)-1])
}

// meanRun is the mean of runs at the places that all of them have.
func meanRun(runs [][]XY) []XY {
	sum, count := map[float64]float64{}, map[float64]int{}
	for _, run := range runs {
		for _, p := range run {
			sum[p.X] += p.Y
			count[p.X]++
		}
	}
	var out []XY
	for x, n := range count {
		if n == len(runs) {
			out = append(out, XY{x, sum[x] / float64(n)})
		}
	}
	slices.SortFunc(out, func(a, b XY) int {
		if a.X < b.X {
			return -1
		}
		return 1
	})
	return out
}

// DotRow is one row of a dot plot.
type DotRow struct {
	Name         string
	Mean, StdErr float64
	Values       []float64
	Labels       []string // of the values, shown when pointed at; may be nil
}

// DotPlot draws each row's values as dots over a common axis, its mean as an upright
// stroke and one standard error to both sides as a bar.
type DotPlot struct {
	Caption string
	XName   string
	Rows    []DotRow
}

const rowHeight = 34

// frame returns the frame that all values and bars fit in; y is in rows.
func (c DotPlot) frame() (frame, bool) {
	xs := extent{}
	var widest float64
	for _, r := range c.Rows {
		for _, v := range r.Values {
			xs.add(v)
		}
		xs.add(r.Mean - r.StdErr)
		xs.add(r.Mean + r.StdErr)
		widest = max(widest, textWidth(shortened(r.Name)))
	}
	if !xs.any {
		return frame{}, false
	}
	height := float64(rowHeight * len(c.Rows))
	return frame{x: newScale(xs.lo, xs.hi, 8), y: scale{lo: float64(len(c.Rows)), hi: 0, step: 1},
		left: 14 + widest, right: chartWidth - marginRight - 8, top: marginTop, bottom: marginTop + height}, true
}

func (c DotPlot) markup() template.HTML {
	f, ok := c.frame()
	if !ok {
		return ""
	}
	var d drawing
	d.axes(f, c.XName, "", false)
	for i, r := range c.Rows {
		y := f.py(float64(i) + 0.5)
		d.label(f.left-8, y+4, "end", "tick", shortened(r.Name))
		if r.StdErr > 0 {
			d.add(`<line class="bar %s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, colour(i), px(f.px(r.Mean-r.StdErr)), px(y), px(f.px(r.Mean+r.StdErr)), px(y))
		}
		d.add(`<line class="stroke %s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, colour(i), px(f.px(r.Mean)), px(y-10), px(f.px(r.Mean)), px(y+10))
		for k, v := range r.Values {
			// Equal values lie below one another instead of hiding one another.
			dy := 12 * (float64(k) + 0.5 - float64(len(r.Values))/2) / float64(len(r.Values))
			title := Number(v)
			if k < len(r.Labels) {
				title = r.Labels[k] + ": " + title
			}
			d.add(`<circle class="dot %s" cx="%s" cy="%s" r="3.5"><title>%s</title></circle>`, colour(i), px(f.px(v)), px(y+dy), template.HTMLEscapeString(title))
		}
	}
	return figure(c.Caption, "", d.done(f.bottom+marginBelow, c.Caption))
}

// shortened cuts a label that would take the chart's room.
func shortened(s string) string {
	if r := []rune(s); len(r) > 30 {
		return string(r[:29]) + "…"
	}
	return s
}

// extent is the smallest stretch that holds all numbers added.
type extent struct {
	lo, hi float64
	any    bool
}

func (e *extent) add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if !e.any {
		e.lo, e.hi, e.any = v, v, true
	}
	e.lo, e.hi = min(e.lo, v), max(e.hi, v)
}

// Part is a piece of a stacked bar.
type Part struct {
	Name  string
	Value int64
}

// stack draws parts end to end; full is the value that would fill the whole width.
func stack(parts []Part, full int64) template.HTML {
	const width, height = 130, 12
	var d strings.Builder
	x := 0.0
	for i, p := range parts {
		if w := width * float64(p.Value) / float64(max(1, full)); w > 0 {
			fmt.Fprintf(&d, `<rect class="k%d" x="%s" y="0" width="%s" height="%d"><title>%s: %s</title></rect>`,
				i%kinds, px(x), px(w), height, template.HTMLEscapeString(p.Name), Bytes(p.Value))
			x += w
		}
	}
	return template.HTML(fmt.Sprintf(`<svg class="stack" viewBox="0 0 %d %d" width="%d" height="%d" role="img">%s</svg>`, width, height, width, height, d.String()))
}

// The colours of series and of kinds of memory, which the style sheet defines.
const (
	colours = 8
	kinds   = 5
)

func colour(i int) string { return "s" + strconv.Itoa(i%colours) }

// legend names the colours of series.
func legend(series []Series) template.HTML {
	var d strings.Builder
	for i, s := range series {
		fmt.Fprintf(&d, `<span class="key"><i class="%s"></i>%s</span>`, colour(i), template.HTMLEscapeString(s.Name))
	}
	return template.HTML(`<div class="legend">` + d.String() + `</div>`)
}

// figure puts a caption and a legend to a drawing.
func figure(caption string, legend, svg template.HTML) template.HTML {
	return "<figure><figcaption>" + template.HTML(template.HTMLEscapeString(caption)) + "</figcaption>" + legend + svg + "</figure>\n"
}

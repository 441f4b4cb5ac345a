package web

import (
	"cmp"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Scatter draws points of which less is better in both directions, and the front of
// those that no other beats in both. Error bars show one standard error of y. Names
// stand beside their points, or at a line's end where there is no room.
type Scatter struct {
	Caption      string
	XName, YName string
	XText        func(float64) string // a tick's label; nil for plain numbers
	Points       []ScatterPoint
}

// ScatterPoint is a name with its place.
type ScatterPoint struct {
	Name    string
	X, Y, E float64
}

// Plots are scatter plots side by side where there is room.
type Plots []Scatter

func (p Plots) markup() template.HTML {
	var b strings.Builder
	for _, s := range p {
		b.WriteString(string(s.markup()))
	}
	if b.Len() == 0 {
		return ""
	}
	return template.HTML(`<div class="plots">` + "\n" + b.String() + "</div>\n")
}

// The size of a scatter plot, which must be readable on a telephone too.
const (
	scatterWidth  = 460
	scatterHeight = 370
	nameLetter    = 6.7
	nameHeight    = 12
)

// wide is the quotient of the extremes from which on an axis is logarithmic.
const wide = 8

// front returns the indices of the points that no other is as good as in both
// directions and better in one, from left to right.
func front(points []ScatterPoint) []int {
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		p, q := points[a], points[b]
		switch {
		case p.X < q.X, p.X == q.X && p.Y < q.Y:
			return -1
		case p.X == q.X && p.Y == q.Y:
			return 0
		}
		return 1
	})
	var out []int
	least := math.Inf(1)
	for _, i := range order {
		if points[i].Y < least {
			out, least = append(out, i), points[i].Y
		}
	}
	return out
}

// logTicks returns 1, 2 and 5 times the powers of ten from lo to hi, or the powers alone
// where that is enough.
func logTicks(lo, hi float64) []float64 {
	var all, powers []float64
	for e := math.Floor(math.Log10(lo)); e <= math.Ceil(math.Log10(hi)); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); v >= lo && v <= hi {
				if all = append(all, v); m == 1 {
					powers = append(powers, v)
				}
			}
		}
	}
	if len(all) > 6 {
		return powers
	}
	return all
}

// plane maps a scatter plot's values to pixels.
type plane struct {
	frame
	log bool
}

func (p plane) x(v float64) float64 {
	if p.log {
		v = math.Log10(v)
	}
	return p.px(v)
}

func (c Scatter) plane() (plane, bool) {
	xs, ys := extent{}, extent{}
	for _, p := range c.Points {
		xs.add(p.X)
		ys.add(p.Y - p.E)
		ys.add(p.Y + p.E)
	}
	if !xs.any || !ys.any {
		return plane{}, false
	}
	p := plane{log: xs.lo > 0 && xs.hi > wide*xs.lo}
	air := 0.03 * (ys.hi - ys.lo)
	p.frame.y = newScale(ys.lo-air, ys.hi+air, 6)
	if p.log {
		pad := 0.07 * math.Log10(xs.hi/xs.lo)
		p.frame.x = scale{lo: math.Log10(xs.lo) - pad, hi: math.Log10(xs.hi) + pad}
	} else {
		air := 0.02 * (xs.hi - xs.lo)
		p.frame.x = newScale(max(xs.lo-air, min(xs.lo, 0)), xs.hi+air, 5)
	}
	var widest float64
	for _, v := range p.frame.y.ticks() {
		widest = max(widest, textWidth(p.frame.y.label(v)))
	}
	p.left, p.right, p.top, p.bottom = 28+widest, scatterWidth-marginRight, marginTop, scatterHeight-marginBelow
	return p, true
}

func (c Scatter) markup() template.HTML {
	p, ok := c.plane()
	if !ok {
		return ""
	}
	var d drawing
	c.axes(&d, p)
	best := front(c.Points)
	c.steps(&d, p, best)
	names := namer{plane: p}
	for _, q := range c.Points {
		names.taken = append(names.taken, around(p.x(q.X), p.py(q.Y), 5))
	}
	for i, q := range c.Points {
		x, y, class := p.x(q.X), p.py(q.Y), "other"
		if slices.Contains(best, i) {
			class = colour(0)
		}
		if q.E > 0 {
			d.add(`<line class="error %s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, px(x), px(p.py(q.Y-q.E)), px(x), px(p.py(q.Y+q.E)))
		}
		d.add(`<circle class="dot %s" cx="%s" cy="%s" r="4"><title>%s: %s, %s</title></circle>`, class, px(x), px(y),
			template.HTMLEscapeString(q.Name), c.text(p, q.X), Number(q.Y))
	}
	names.put(&d, c.Points, best)
	return figure(c.Caption, "", d.sized(scatterWidth, scatterHeight, c.Caption))
}

// text writes a value of the x axis.
func (c Scatter) text(p plane, v float64) string {
	switch {
	case c.XText != nil:
		return c.XText(v)
	case p.log:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return p.frame.x.label(v)
}

func (c Scatter) axes(d *drawing, p plane) {
	ticks := p.frame.x.ticks
	if p.log {
		ticks = func() []float64 { return logTicks(math.Pow(10, p.frame.x.lo), math.Pow(10, p.frame.x.hi)) }
	}
	for _, v := range ticks() {
		x := px(p.x(v))
		d.add(`<line class="grid" x1="%s" y1="%s" x2="%s" y2="%s"/>`, x, px(p.top), x, px(p.bottom))
		d.label(p.x(v), p.bottom+16, "middle", "tick", c.text(p, v))
	}
	for _, v := range p.frame.y.ticks() {
		y := p.py(v)
		d.add(`<line class="grid" x1="%s" y1="%s" x2="%s" y2="%s"/>`, px(p.left), px(y), px(p.right), px(y))
		d.label(p.left-6, y+4, "end", "tick", p.frame.y.label(v))
	}
	d.frameNames(p.frame, c.XName, c.YName)
}

// steps draws the border of what the front beats.
func (c Scatter) steps(d *drawing, p plane, best []int) {
	var path strings.Builder
	for k, i := range best {
		x, y := px(p.x(c.Points[i].X)), px(p.py(c.Points[i].Y))
		if k == 0 {
			path.WriteString("M" + x + " " + px(p.top) + "V" + y)
		} else {
			path.WriteString("H" + x + "V" + y)
		}
	}
	d.add(`<path class="front" d="%sH%s"/>`, path.String(), px(p.right))
}

// box is a rectangle of a drawing.
type box struct{ left, top, right, bottom float64 }

func around(x, y, r float64) box { return box{x - r, y - r, x + r, y + r} }

func (b box) meets(o box) bool {
	return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom
}

// namer finds room for names.
type namer struct {
	plane plane
	taken []box
}

// spot is a place for a name beside its point, and how far off that is.
type spot struct{ dx, dy, cost float64 }

// spots lists places from near to far: on both sides, higher and lower, in columns.
var spots = func() []spot {
	var all []spot
	for _, side := range []float64{1, -1} {
		for dx := 8.0; dx < 240; dx += 14 {
			for dy := -78.0; dy <= 78; dy += 6.5 {
				cost := math.Abs(dy) + 0.6*dx
				if side < 0 {
					cost += 3
				}
				all = append(all, spot{side * dx, dy, cost})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b spot) int { return cmp.Compare(a.cost, b.cost) })
	return all
}()

// put writes the points' names from top to bottom, each at the nearest free place, with
// a line to it from afar.
func (n *namer) put(d *drawing, points []ScatterPoint, best []int) {
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(points[b].Y, points[a].Y) })
	var names drawing // above all lines
	for _, i := range order {
		text := shortened(points[i].Name)
		x, y := n.plane.x(points[i].X), n.plane.py(points[i].Y)
		s, b, ok := n.place(x, y, nameLetter*float64(len([]rune(text))))
		if !ok {
			continue
		}
		n.taken = append(n.taken, b)
		edge := b.left
		if s.dx < 0 {
			edge = b.right
		}
		if s.cost > 14 {
			d.add(`<line class="leader" x1="%s" y1="%s" x2="%s" y2="%s"/>`, px(x), px(y), px(edge), px(y+s.dy))
		}
		class := "tick"
		if slices.Contains(best, i) {
			class = "name"
		}
		names.label((b.left+b.right)/2, y+s.dy+4, "middle", class, text)
	}
	d.WriteString(names.String())
}

// place returns the nearest free place for a name of width w.
func (n *namer) place(x, y, w float64) (spot, box, bool) {
	for _, s := range spots {
		b := box{x + s.dx, y + s.dy - nameHeight/2, x + s.dx + w, y + s.dy + nameHeight/2}
		if s.dx < 0 {
			b.left, b.right = x+s.dx-w, x+s.dx
		}
		inside := b.left > n.plane.left+2 && b.right < scatterWidth && b.top > n.plane.top && b.bottom < n.plane.bottom-2
		if inside && !slices.ContainsFunc(n.taken, b.meets) {
			return s, b, true
		}
	}
	return spot{}, box{}, false
}

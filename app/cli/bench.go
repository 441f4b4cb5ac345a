package cli

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"tare/lab"
	"tare/lab/speed"
)

// benchVerb measures how fast the engine and the formats are.
type benchVerb struct {
	Only     []string `placeholder:"WORK" help:"Only these works, separated by commas."`
	Shapes   []string `placeholder:"MxKxN" help:"Matrix products to time instead of the standard ones."`
	Reps     int      `placeholder:"N" help:"Repetitions of each case; standard are 7, with --quick 3."`
	Quick    bool     `help:"Few and short repetitions, and a short trial of the peers' settings."`
	Peers    bool     `default:"true" negatable:"" help:"Measure peers beside, where they are installed."`
	Python   string   `default:"python3" env:"TARE_PYTHON" placeholder:"PROGRAM" help:"Python interpreter that the peers run in (${env})."`
	Markdown bool     `help:"Print the table as Markdown."`
}

// Help shows examples.
func (*benchVerb) Help() string {
	var works strings.Builder
	for _, w := range speed.Works() {
		fmt.Fprintf(&works, "  %-10s %s\n", w.Name, w.About)
	}
	return `Works:
` + works.String() + `
Every rate is an amount a second, so higher is better, and a ratio is Tare's rate over the peer's: above 1 Tare is faster. Rates are medians; the repetitions of Tare and its peers alternate. Products are timed beside numpy's BLAS and training steps beside PyTorch and PEFT, each with the settings of its thread pools that a short trial finds fastest; what reads and writes files is timed beside copying a file of that size. The interpreter with these packages is named by --python or the variable TARE_PYTHON. A machine that does other work meanwhile gives figures of no use.

Examples:
  tare bench
  tare bench --only gemm,step --python path/to/python
  tare bench --only gemm --shapes 512x512x512,64x4096x4096 --no-peers
  tare bench --json > bench.json
  tare bench --markdown`
}

// Run implements the verb.
func (v *benchVerb) Run(a *app) error {
	shapes, err := v.shapes()
	switch {
	case err != nil:
		return err
	case v.Reps < 0:
		return usagef("--reps %d, want 1 or more", v.Reps)
	case v.Markdown && a.JSON:
		return usagef("--markdown and --json exclude each other")
	}
	p := a.progress("bench", "cases")
	rows, err := speed.Run(a.ctx, speed.Options{
		Only: v.Only, Shapes: shapes, Reps: v.Reps, Quick: v.Quick, Python: v.Python, NoPeers: !v.Peers,
		Progress: func(done, total int, name string) { p.update(int64(done), int64(total), name) },
		Result:   func(rows []speed.Row) { sayRows(p, rows) },
		Log:      func(line string) { p.say("%s", line) },
	})
	p.done()
	switch {
	case errors.Is(err, speed.ErrWork):
		return usagef("--only: %w", err)
	case err != nil:
		return err
	case a.JSON:
		return a.printJSON(rows)
	case v.Markdown:
		printMarkdown(a, rows)
	default:
		printRates(a, rows)
	}
	return nil
}

// shapes reads products written as 512x256x1024 or with multiplication signs.
func (v *benchVerb) shapes() ([][3]int, error) {
	var out [][3]int
	for _, text := range v.Shapes {
		var s [3]int
		var rest string
		n, _ := fmt.Sscanf(strings.ReplaceAll(text, "×", "x")+"\n", "%dx%dx%d%s", &s[0], &s[1], &s[2], &rest)
		if n != 3 || min(s[0], s[1], s[2]) < 1 {
			return nil, usagef("--shapes %q, want three sizes as 512x256x1024", text)
		}
		out = append(out, s)
	}
	return out, nil
}

// sayRows tells the person watching what a case gave.
func sayRows(p *progress, rows []speed.Row) {
	for _, r := range rows {
		line := fmt.Sprintf("%s %s, %d threads: %s %s", r.Work, r.Shape, r.Threads, rateText(r.Rate), r.Unit)
		if r.Ratio != nil {
			line += fmt.Sprintf(", %s %s, ratio %.2f", r.Peer, rateText(*r.PeerRate), *r.Ratio)
		}
		p.say("%s", line)
	}
}

// benchHeader is the head of both tables; numbers begin with a space.
var benchHeader = []string{"work", "shape", " threads", " rate", " min – max", "unit", "peer", " its rate", " min – max", " ratio"}

func benchCells(r speed.Row) []string {
	shape := strings.ReplaceAll(r.Shape, "x", "×")
	cells := []string{r.Work, shape, fmt.Sprint(r.Threads), rateText(r.Rate), rangeText(r.Min, r.Max), r.Unit, "–", "–", "–", "–"}
	switch {
	case r.Ratio != nil:
		cells[6], cells[7], cells[8], cells[9] = r.Peer, rateText(*r.PeerRate), rangeText(*r.PeerMin, *r.PeerMax), fmt.Sprintf("%.2f", *r.Ratio)
	case r.MemoryRead > 0: // decoding is held against memory
		cells[6] = fmt.Sprintf("reads %s GB/s of weights, memory gives", rateText(r.WeightsRead))
		cells[7], cells[9] = rateText(r.MemoryRead), fmt.Sprintf("%.2f", r.WeightsRead/r.MemoryRead)
	}
	return cells
}

func printRates(a *app, rows []speed.Row) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, benchCells(r))
	}
	table(a.out, benchHeader, cells)
	fmt.Fprintf(a.out, "\nmedians of %d repetitions that alternate with the peer's; ratio is Tare over peer, higher is better\n%s\n", rows[0].Runs, lab.CPU())
	for _, v := range peerVersions(rows) {
		fmt.Fprintln(a.out, v)
	}
}

// peerVersions names each peer that was measured once, with its version.
func peerVersions(rows []speed.Row) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range rows {
		if r.PeerVersion == "" || seen[r.Peer] {
			continue
		}
		seen[r.Peer] = true
		out = append(out, fmt.Sprintf("%s: %s (%s)", r.Peer, r.PeerVersion, r.PeerSetting))
	}
	return out
}

func printMarkdown(a *app, rows []speed.Row) {
	line := func(cells []string) { fmt.Fprintf(a.out, "| %s |\n", strings.Join(cells, " | ")) }
	head, rule := make([]string, len(benchHeader)), make([]string, len(benchHeader))
	for i, h := range benchHeader {
		head[i], rule[i] = strings.TrimSpace(h), "---"
		if h[0] == ' ' {
			rule[i] = "---:"
		}
	}
	line(head)
	line(rule)
	for _, r := range rows {
		line(benchCells(r))
	}
}

// rateText writes a rate with three digits, never with an exponent.
func rateText(v float64) string {
	if v <= 0 {
		return "0"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(v))))
	return fmt.Sprintf("%.*f", digits, v)
}

func rangeText(lo, hi float64) string { return rateText(lo) + " – " + rateText(hi) }

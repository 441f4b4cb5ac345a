package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
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
	Llama    string   `env:"TARE_LLAMA" placeholder:"PROGRAM" help:"Program that decodes with llama.cpp: parity/llama_peer.c, built (${env})."`
	Trials   string   `placeholder:"FOLDER" help:"Keep which of PyTorch's settings are fastest here in a folder, and use those that it holds."`
	PeakOf   *int     `hidden:""`
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
Every rate is an amount a second, so higher is better, and a ratio is Tare's rate over the peer's. Memory is megabytes, less is better, and its ratio is the peer's over Tare's. So above 1 Tare is always the better. Figures are medians; the repetitions of Tare and its peers alternate. Products are timed beside numpy's BLAS, attention and training steps beside PyTorch and PEFT with the settings that a trial finds fastest, decoding beside llama.cpp, opening beside safetensors in Python, merges beside mergekit; what writes files is timed beside copying a file of that size. The interpreter with these packages is named by --python or the variable TARE_PYTHON, the program that runs llama.cpp by --llama or TARE_LLAMA. The trial of PyTorch's settings takes minutes; --trials keeps what it finds for the next time. A machine that does other work meanwhile gives figures of no use.

Examples:
  tare bench
  tare bench --only gemm,step --python path/to/python --trials path/to/folder
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
	if v.PeakOf != nil {
		peak, err := speed.PeakOf(a.ctx, *v.PeakOf)
		if err != nil {
			return err
		}
		return a.printJSON(peak)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := a.progress("bench", "cases")
	rows, err := speed.Run(a.ctx, speed.Options{
		Only: v.Only, Shapes: shapes, Reps: v.Reps, Quick: v.Quick, NoPeers: !v.Peers, Python: v.Python, Trials: v.Trials, Llama: v.Llama,
		Peak:     []string{self, "bench", "--peak-of"},
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
	if r.Ratio != nil {
		cells[6], cells[7], cells[8], cells[9] = r.Peer, rateText(*r.PeerRate), rangeText(*r.PeerMin, *r.PeerMax), fmt.Sprintf("%.2f", *r.Ratio)
	}
	return cells
}

// weightsCells holds what decoding reads against what memory gives.
func weightsCells(r speed.Row) []string {
	shape := strings.ReplaceAll(r.Shape, "x", "×")
	return []string{r.Work, shape, fmt.Sprint(r.Threads), rateText(r.WeightsRead), "–", "GB/s of weights", "what memory gives", rateText(r.MemoryRead), "–", fmt.Sprintf("%.2f", r.WeightsRead/r.MemoryRead)}
}

// benchTable has a line for each row, and before a case's own another where its weights
// are held against memory.
func benchTable(rows []speed.Row) [][]string {
	var lines [][]string
	for i, r := range rows {
		if r.MemoryRead > 0 && (i == 0 || rows[i-1].Shape != r.Shape) {
			lines = append(lines, weightsCells(r))
		}
		lines = append(lines, benchCells(r))
	}
	return lines
}

func printRates(a *app, rows []speed.Row) {
	table(a.out, benchHeader, benchTable(rows))
	for _, r := range rows[:min(1, len(rows))] {
		fmt.Fprintf(a.out, "\nmedians of %d repetitions that alternate with the peer's; above a ratio of 1 Tare is the better\n", r.Runs)
	}
	fmt.Fprintln(a.out, lab.CPU())
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
	for _, cells := range benchTable(rows) {
		line(cells)
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

package stats

import (
	"bufio"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tare/bench"
)

// The path of the paper's size, 2,500 rows, ten columns, four classes, on data whose cuts
// cross in many rows.
func BenchmarkPrestoPath(b *testing.B) {
	x, y := drawn(rand.New(rand.NewPCG(1, 1)), 2500, 10, 4, 1)
	o := NewPresto()
	o.Lambdas = 20
	for b.Loop() {
		r, err := newOrdinalRows(x, y, 4)
		if err != nil {
			b.Fatal(err)
		}
		f := newOrdinalFit(r, o.Solver, "presto")
		if _, err := o.along(b.Context(), f, o.path(f), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProportionalOdds times a fit to 20,000 rows of ten columns in five classes,
// and in turn with it statsmodels' by three of its optimisers, where TARE_PYTHON names an
// interpreter that has it:
//
//	TARE_PYTHON=python3 go test ./method/stats -run '^$' -bench ProportionalOdds -benchtime 5x
func BenchmarkProportionalOdds(b *testing.B) {
	x, y := drawn(rand.New(rand.NewPCG(1, 1)), 20_000, 10, 5, 0)
	ask := statsmodelsProcess(b, x.RawMatrix().Data, 10, y)
	var ours []float64
	theirs := map[string][]float64{}
	for b.Loop() {
		began := time.Now()
		m, err := NewProportionalOdds().Fit(b.Context(), x, y, 5)
		if err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(began).Seconds())
		for _, name := range []string{"newton", "bfgs", "lbfgs"} {
			if ask == nil {
				break
			}
			seconds, log := ask(name)
			if math.Abs(log-m.LogLikelihood) > 1e-6*math.Abs(log) {
				b.Logf("statsmodels' %s stopped at log-likelihood %.8g, ours is %.8g", name, log, m.LogLikelihood)
				continue
			}
			theirs[name] = append(theirs[name], seconds)
		}
	}
	b.ReportMetric(1e3*median(ours), "ms/fit")
	for name, seconds := range theirs {
		b.ReportMetric(1e3*median(seconds), "ms/statsmodels-"+name)
		b.ReportMetric(median(seconds)/median(ours), "×statsmodels-"+name)
	}
}

// statsmodelsProcess starts the peer on the rows; nil where there is none.
func statsmodelsProcess(b *testing.B, x []float64, width int, y []int) func(name string) (seconds, log float64) {
	python := os.Getenv("TARE_PYTHON")
	if python == "" {
		b.Log("TARE_PYTHON names no interpreter: statsmodels is not measured")
		return nil
	}
	script := filepath.Join(b.TempDir(), "ordinal_peer.py")
	if err := os.WriteFile(script, []byte(bench.OrdinalPeer), 0o666); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(python, script)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	rows := make([][]float64, len(y))
	for i := range rows {
		rows[i] = x[i*width : (i+1)*width]
	}
	if err := json.NewEncoder(in).Encode(map[string]any{"x": rows, "y": y}); err != nil {
		b.Fatal(err)
	}
	answers := bufio.NewReader(out)
	return func(name string) (seconds, log float64) {
		if _, err := in.Write([]byte(name + "\n")); err != nil {
			b.Fatal(err)
		}
		line, err := answers.ReadBytes('\n')
		var a struct{ Seconds, Log float64 }
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		if err != nil {
			b.Fatalf("statsmodels: %v", err)
		}
		return a.Seconds, a.Log
	}
}

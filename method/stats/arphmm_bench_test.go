package stats

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tare/bench"
)

// BenchmarkEM times an iteration of EM on 1e5 observations, and in turn with it
// hmmlearn's from the same start by both of its recursions, where TARE_PYTHON names an
// interpreter that has hmmlearn:
//
//	TARE_PYTHON=python3 go test ./method/stats -run '^$' -bench EM -benchtime 5x
func BenchmarkEM(b *testing.B) {
	for _, kind := range []string{"full", "diagonal"} {
		b.Run(kind, func(b *testing.B) { besideHmmlearn(b, kind) })
	}
}

func besideHmmlearn(b *testing.B, kind string) {
	const n, k, d, iterations = 100_000, 4, 3, 10
	rng := rand.New(rand.NewPCG(1, 2))
	y, _ := wander(rng, n, k, 0, d)
	o := ARPHMM{States: k, Covariance: kind, MaxIter: iterations, Tol: 1e-300, Start: &HMM{States: k, Dim: d}}
	for i := range k {
		o.Start.Initial = append(o.Start.Initial, 1.0/k)
		row := make([]float64, k)
		for j := range row {
			row[j] = 0.05
		}
		row[i] = 1 - 0.05*(k-1)
		o.Start.Transition = append(o.Start.Transition, row)
		mean := 1.7*float64(i) + 0.3
		o.Start.Coef = append(o.Start.Coef, [][]float64{{mean}, {mean}, {mean}})
		o.Start.Cov = append(o.Start.Cov, identity(d))
	}
	var rows [][]float64
	for i := range n {
		rows = append(rows, y.RawRowView(i))
	}
	ask := hmmlearnProcess(b, map[string]any{
		"rows": rows, "initial": o.Start.Initial, "transition": o.Start.Transition,
		"means": firstColumns(o.Start.Coef), "covariance": kind, "iterations": iterations,
	})
	var ours []float64
	theirs := map[string][]float64{}
	for b.Loop() {
		begin := time.Now()
		m, err := o.Fit(context.Background(), []Sequence{{Y: y}})
		var stopped *StoppedError
		if m == nil || !errors.As(err, &stopped) {
			b.Fatal(err)
		}
		// The last likelihood is of a further half of an iteration, which counts as one.
		ours = append(ours, time.Since(begin).Seconds()/iterations)
		if ask == nil {
			continue
		}
		for _, recursion := range []string{"log", "scaling"} {
			seconds, log := ask(recursion)
			theirs[recursion] = append(theirs[recursion], seconds)
			if math.Abs(log-m.Trace[iterations-1]) > 1e-8*math.Abs(log) {
				b.Fatalf("log-likelihood %.12g, hmmlearn's is %.12g", m.Trace[iterations-1], log)
			}
		}
	}
	b.ReportMetric(1e3*median(ours), "ms/iteration")
	for recursion, seconds := range theirs {
		b.ReportMetric(1e3*median(seconds), "ms/hmmlearn-"+recursion)
		b.ReportMetric(median(seconds)/median(ours), "×hmmlearn-"+recursion)
	}
}

func firstColumns(coef [][][]float64) (out [][]float64) {
	for _, c := range coef {
		var row []float64
		for _, r := range c {
			row = append(row, r[0])
		}
		out = append(out, row)
	}
	return out
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// hmmlearnProcess starts the peer on a job, nil where there is none.
func hmmlearnProcess(b *testing.B, job map[string]any) (ask func(recursion string) (seconds, log float64)) {
	python := os.Getenv("TARE_PYTHON")
	if python == "" {
		b.Log("TARE_PYTHON is not set: without hmmlearn beside it")
		return nil
	}
	script := filepath.Join(b.TempDir(), "hmm_peer.py")
	if err := os.WriteFile(script, []byte(bench.HMMPeer), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(python, script, "--serve")
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
		cmd.Wait()
	})
	if err := json.NewEncoder(in).Encode(job); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	return func(recursion string) (float64, float64) {
		fmt.Fprintln(in, recursion)
		if !lines.Scan() {
			b.Fatal("hmmlearn ended early")
		}
		var answer struct{ Seconds, Log float64 }
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			b.Fatal(err)
		}
		return answer.Seconds, answer.Log
	}
}

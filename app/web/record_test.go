package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"tare/lab"
)

// sample is a record with curves, findings and a name that must be escaped.
func sample() *lab.Record {
	curve := func(end, noise float64) []lab.Point {
		var c []lab.Point
		for step := 10; step <= 600; step += 10 {
			t := float64(step)
			c = append(c, lab.Point{Step: step, Value: end + 2.2*math.Exp(-t/120) + noise*math.Sin(t*noise*9)})
		}
		return c
	}
	arm := func(name string, role lab.Role, mean float64, trainable int64, act int64, seconds float64) lab.ArmRecord {
		a := lab.ArmRecord{Name: name, Role: role, Mean: mean, StdErr: 0.0042, Trainable: trainable, Seconds: seconds,
			Values: []float64{mean - 0.006, mean + 0.001, mean + 0.005},
			Peak:   lab.PeakBytes{Weights: 11 << 20, Gradients: trainable, Optimizer: 2 * trainable, Activations: act, Scratch: 6 << 20},
			Extra:  map[string]lab.Spread{"exact match": {Mean: 0.812, StdErr: 0.011}}}
		for i := range 3 {
			a.Curves = append(a.Curves, curve(mean, 0.02+0.01*float64(i)))
		}
		return a
	}
	return &lab.Record{
		Slug: "paca", Claim: "Less time and memory than <LoRA> at comparable accuracy.", Rule: "supported unless paca is worse than lora in mean held-out loss by more than one standard error of the difference; not supported if it is",
		Figure: lab.Figure{Name: "held-out loss", Unit: "nats", Better: lab.Lower},
		Arms: []lab.ArmRecord{arm("paca", lab.Method, 1.523, 98304, 9<<20, 41.2), arm("lora", lab.Baseline, 1.531, 98304, 14<<20, 52.9),
			arm("dora with weight decomposition & more", lab.Baseline, 1.529, 101376, 19<<20, 71), arm("full", lab.Baseline, 1.498, 2_750_000, 22<<20, 95)},
		Verdict: lab.Supported, Commit: "0123456789abcdef0123456789abcdef01234567", Modified: true, CPU: "Some CPU @ 2.10GHz", Threads: 2,
		Started: time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC), Seconds: 812, Seeds: []uint64{1, 2, 3},
		Findings: []lab.Finding{
			{Figure: lab.Figure{Name: "held-out loss", Unit: "nats", Better: lab.Lower}, Method: "paca", Baseline: "lora", MeanM: 1.523, MeanB: 1.531, Gain: 0.008, StdErr: 0.0059, Verdict: lab.Supported},
			{Figure: lab.Figure{Name: "peak memory", Unit: "bytes", Better: lab.Lower}, Method: "paca", Baseline: "lora", MeanM: 27e6, MeanB: 32e6, Gain: 5e6, Verdict: lab.Supported},
		},
	}
}

func TestRecordPage(t *testing.T) {
	second := sample()
	second.Slug, second.Verdict = "bone", lab.Mixed
	second.Arms = second.Arms[:2]
	second.Arms[0].Curves, second.Arms[1].Curves = nil, nil
	var page bytes.Buffer
	if err := WriteRecord(&page, []*lab.Record{sample(), second}); err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("TARE_SAMPLE_PAGE"); path != "" {
		if err := os.WriteFile(path, page.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	html := page.String()
	for _, want := range []string{"PaCA: Partial Connection Adaptation", `class="badge good">supported`, `class="badge open">mixed`,
		"&lt;LoRA&gt;", "1.5230 ± 0.0042", "0.812 ± 0.011", "98.3 k", "41.2 s", "&#43;0.0080 ± 0.0059", "2 threads", "with changes", "2025-03-04 05:06 UTC", "more than one standard error"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(html, "<LoRA>") {
		t.Error("text is not escaped")
	}
	for _, outside := range []string{"http://", "https://", "<script", "src=", "@import", "url("} {
		if strings.Contains(html, outside) {
			t.Errorf("the page asks for something from elsewhere: %q", outside)
		}
	}
	if n := strings.Count(html, `class="chart"`); n != 3 { // curves and dots, then dots alone
		t.Errorf("%d charts, want 3", n)
	}
	wellFormed(t, html)
}

// wellFormed checks that all elements close in their order.
func wellFormed(t *testing.T, html string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.Replace(html, "<!doctype html>", "", 1)))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Spread(1.52349, 0.0042), "1.5235 ± 0.0042"}, {Spread(49.36, 1.27), "49.4 ± 1.3"}, {Spread(812, 0), "812.0"}, {Spread(12345.6, 130), "12346 ± 130"},
		{Number(0), "0"}, {Number(0.0123456), "0.01235"}, {Number(3), "3.000"}, {Number(-15), "-15.00"}, {Number(1.5e9), "1.5e+09"},
		{Bytes(1023), "1023 B"}, {Bytes(1536), "1.5 KiB"}, {Bytes(5 << 30), "5.0 GiB"},
		{Count(9999), "9999"}, {Count(98304), "98.3 k"}, {Count(2_750_000), "2.75 M"},
		{Seconds(0.0123), "12 ms"}, {Seconds(59.94), "59.9 s"}, {Seconds(61), "1 min 01 s"}, {Seconds(3720), "1 h 02 min"},
		{GainText(lab.Finding{Figure: lab.Figure{Unit: "bytes"}, Gain: -2048, StdErr: 1024}), "-2.0 KiB ± 1.0 KiB"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

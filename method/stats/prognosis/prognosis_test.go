package prognosis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/method/stats"
)

func line(unit, cycle int, rest float64) string {
	return fmt.Sprint(unit, " ", cycle, strings.Repeat(fmt.Sprint(" ", rest), 24), "  \n")
}

func TestReadsFilesAsPublished(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"train_FD001.txt": line(1, 1, 0.5) + line(1, 2, 1) + line(2, 1, -3e-4),
		"test_FD001.txt":  line(1, 1, 7) + line(2, 1, 8) + line(2, 2, 9),
		"RUL_FD001.txt":   "112 \n98\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	train, test, err := ReadCMAPSS(folder, "FD001")
	if err != nil {
		t.Fatal(err)
	}
	if len(train) != 2 || train[0].Cycles() != 2 || train[0].Sensors[1][20] != 1 || train[1].Settings[0][2] != -3e-4 || train[0].Left != 0 {
		t.Errorf("training units are %+v", train)
	}
	if len(test) != 2 || test[1].Cycles() != 2 || test[0].Left != 112 || test[1].Left != 98 {
		t.Errorf("test units are %+v", test)
	}
	if _, _, err := ReadCMAPSS(folder, "FD002"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing subset says %v", err)
	}
}

func TestNamesWhatIsWrongInAFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "f, line"},
		{"1 1 2\n", "f, line 1: unfit data: 3 columns, C-MAPSS has 26"},
		{line(1, 1, 1) + strings.Replace(line(1, 2, 5), "5", "x", 1), "f, line 2: unfit data: column 3 is \"x\""},
		{line(1, 1, math.NaN()), "column 3 is \"NaN\""},
		{line(1, 1, 1) + line(1, 3, 1), "unit 1 has cycle 3, want 2"},
	} {
		_, err := ReadUnits("f", strings.NewReader(c.text))
		if !errors.Is(err, ErrData) || c.text != "" && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives %v", c.text, err)
		}
	}
}

func FuzzReadUnits(f *testing.F) {
	f.Add(line(1, 1, 1) + line(1, 2, 2))
	f.Add("1 1e400")
	f.Fuzz(func(t *testing.T, text string) { ReadUnits("f", strings.NewReader(text)) })
}

// The published score's values at a few errors.
func TestMetrics(t *testing.T) {
	truth := []float64{50, 50, 50, 50, 50}
	predicted := []float64{50, 60, 37, 61, 36}
	want := (math.E - 1) + (math.E - 1) + (math.Exp(1.1) - 1) + (math.Exp(14.0/13) - 1)
	if got := Score(predicted, truth); math.Abs(got-want) > 1e-12 {
		t.Errorf("score is %v, want %v", got, want)
	}
	if got := Accuracy(predicted, truth); got != 0.6 {
		t.Errorf("accuracy is %v, want 3 of 5", got)
	}
	if got := RMSE([]float64{3, 0}, []float64{0, 4}); math.Abs(got-math.Sqrt(12.5)) > 1e-12 {
		t.Errorf("error is %v", got)
	}
}

func TestSimulatorIsReproducibleAndFails(t *testing.T) {
	o := Simulator{Regimes: 6, Faults: 2, Seed: 3}
	a, stopped, health, err := o.Fleet(8, 5)
	if err != nil {
		t.Fatal(err)
	}
	b, _, _, _ := o.Fleet(8, 5)
	for i := range a {
		if a[i].Cycles() < 60 || a[i].Cycles() >= longest {
			t.Errorf("unit %d lasts %d cycles", i, a[i].Cycles())
		}
		if a[i].Sensors[10] != b[i].Sensors[10] {
			t.Error("a second fleet of the seed differs")
		}
		for c := 1; c < len(health[i]); c++ {
			if health[i][c] >= health[i][c-1] {
				t.Fatalf("unit %d heals at cycle %d", i, c)
			}
		}
	}
	for _, u := range stopped {
		if u.Left < 1 || u.Cycles() < 1 {
			t.Errorf("a stopped unit has %d cycles and %d left", u.Cycles(), u.Left)
		}
	}
}

// The indicator falls with the health, by both means and in all regimes.
func TestIndicatorFollowsHealth(t *testing.T) {
	units, _, health, err := Simulator{Regimes: 6, Faults: 2, Seed: 5}.Fleet(20, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"regression", "component"} {
		ind := &Indicator{By: by}
		if err := ind.Fit(units[:15]); err != nil {
			t.Fatal(err)
		}
		for i := 15; i < 20; i++ {
			h := ind.Of(&units[i])
			if r := correlation(h, health[i]); r < 0.9 {
				t.Errorf("%s: unit %d's indicator has correlation %.3f with its health", by, i, r)
			}
		}
	}
}

func correlation(a, b []float64) float64 {
	var ma, mb, ab, aa, bb float64
	n := float64(len(a))
	for i := range a {
		ma, mb = ma+a[i]/n, mb+b[i]/n
	}
	for i := range a {
		ab, aa, bb = ab+(a[i]-ma)*(b[i]-mb), aa+(a[i]-ma)*(a[i]-ma), bb+(b[i]-mb)*(b[i]-mb)
	}
	return ab / math.Sqrt(aa*bb)
}

// A straight line down has the life that its slope says.
func TestSimulatedLifeOfALine(t *testing.T) {
	m := &stats.HMM{
		States: 1, Order: 1, Dim: 1, Initial: []float64{1}, Transition: [][]float64{{1}},
		Coef: [][][]float64{{{-0.01, 1}}}, Cov: [][][]float64{{{1e-6}}},
	}
	indicator := make([]float64, 41)
	for i := range indicator {
		indicator[i] = 1 - 0.01*float64(i)
	}
	p, err := Simulated{Model: m, Threshold: 0.0001}.Predict(context.Background(), indicator)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(p.Life-60) > 1 || p.Low > 60 || p.High < 60 || p.High-p.Low > 6 {
		t.Errorf("%+v, want 60", p)
	}
}

// A unit of the library has the life that it had.
func TestSimilarFindsAUnitItself(t *testing.T) {
	a, b := make([]float64, 100), make([]float64, 150)
	for i := range a {
		a[i] = 1 - math.Pow(float64(i)/100, 3)
	}
	for i := range b {
		b[i] = 1.1 - math.Pow(float64(i)/150, 2)
	}
	s := Similar{Window: 20}
	s.Library = append(s.Library, column(a), column(b))
	p, err := s.Predict(column(b[:90]))
	if err != nil {
		t.Fatal(err)
	}
	if p.Life != 60 {
		t.Errorf("%+v, want 60", p)
	}
	s.Window = 200
	if _, err := s.Predict(column(make([]float64, 200))); err == nil || !strings.Contains(err.Error(), "no unit of the library lasted 200 rows") {
		t.Errorf("a window that is too long says %v", err)
	}
}

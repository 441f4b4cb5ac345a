package fitting

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/lab/tuning"
)

// written returns the path of a table.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.csv")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// survey is a table whose response grows with dose and is less in one place.
func survey(n int) string {
	rng := rand.New(rand.NewPCG(3, 3))
	var b strings.Builder
	b.WriteString("id,dose,place,score,pain\n")
	for i := range n {
		dose, place := 1+4*rng.Float64(), []string{"north", "south", "west"}[rng.IntN(3)]
		eta := 0.8*dose + 0.5*rng.NormFloat64()
		if place == "south" {
			eta -= 1
		}
		pain := "none"
		if u := eta + math.Log(1/rng.Float64()-1); u > 5 {
			pain = "severe"
		} else if u > 2 {
			pain = "some"
		}
		fmt.Fprintf(&b, "%d,%.4f,%s,%d,%s\n", i, dose, place, rng.IntN(10), pain)
	}
	return b.String()
}

func fitted(t *testing.T, method, text string, r Recipe, options map[string]string) (*Fitted, error) {
	t.Helper()
	sheet, err := ReadSheet(written(t, text))
	if err != nil {
		return nil, err
	}
	m, err := ByName(method)
	if err != nil {
		t.Fatal(err)
	}
	o := m.New()
	if err := tuning.SetOptions(o, options); err != nil {
		t.Fatal(err)
	}
	if r.Missing == "" {
		r.Missing = MissingRefuse
	}
	r.Level = 0.9
	return Fit(context.Background(), sheet, m, o, r, Run{Seed: 1})
}

var asked = Recipe{Formula: "pain ~ . - id", Order: []string{"none", "some", "severe"}, Scale: true, Test: 0.25}

// Every method that predicts classes: a model from a file predicts what the fitted one
// did, from raw columns.
func TestSavedModelsPredictTheSame(t *testing.T) {
	for _, m := range Methods() {
		if m.Takes.Response != Ordered {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			options := map[string]string{}
			if m.Name == "presto" {
				options = map[string]string{"lambdas": "8", "folds": "3"}
			}
			text := survey(300)
			f, err := fitted(t, m.Name, text, asked, options)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "model.json")
			if err := f.Save(path); err != nil {
				t.Fatal(err)
			}
			again, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			sheet, err := ReadSheet(written(t, text))
			if err != nil {
				t.Fatal(err)
			}
			a, err := f.Predict(sheet)
			if err != nil {
				t.Fatal(err)
			}
			b, err := again.Predict(sheet)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(a.Probabilities) != fmt.Sprint(b.Probabilities) || len(a.Lines) != 300 {
				t.Errorf("%d rows, and the predictions differ", len(a.Lines))
			}
			if a.Scores == nil || f.Test == nil || f.Rows.Test+f.Rows.Train != 300 || math.Abs(float64(f.Rows.Test)-75) > 2 {
				t.Errorf("scores %v, rows %+v", a.Scores, f.Rows)
			}
			if *f.Train.LogLoss >= math.Log(float64(len(a.Classes))) {
				t.Errorf("log loss %v is no better than chance", *f.Train.LogLoss)
			}
		})
	}
}

// Standardised or not, the likeliest model's predictions are the same.
func TestStandardisationChangesUnitsAlone(t *testing.T) {
	text := survey(200)
	raw := asked
	raw.Scale = false
	a, err := fitted(t, "proportional-odds", text, asked, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fitted(t, "proportional-odds", text, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(*a.Test.LogLoss-*b.Test.LogLoss) > 1e-7 {
		t.Errorf("log loss %v standardised, %v raw", *a.Test.LogLoss, *b.Test.LogLoss)
	}
	one, two := a.model.(Refitter).Coefficients(), b.model.(Refitter).Coefficients()
	if scale := a.Coding.Design[0].Scale; math.Abs(one[0].Value-two[0].Value*scale) > 1e-6 {
		t.Errorf("%s: %v a standard deviation, %v a unit of %v", one[0].Name, one[0].Value, two[0].Value, scale)
	}
}

func TestMissingValues(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(survey(120)), "\n")
	cut := func(line, field int, value string) {
		cells := strings.Split(lines[line], ",")
		cells[field] = value
		lines[line] = strings.Join(cells, ",")
	}
	cut(5, 1, "NA")
	cut(9, 2, "")
	text := strings.Join(lines, "\n")
	if _, err := fitted(t, "proportional-odds", text, asked, nil); !errors.Is(err, ErrTable) || !strings.Contains(fmt.Sprint(err), "line 6") && !strings.Contains(fmt.Sprint(err), "line 10") {
		t.Errorf("refused: %v", err)
	}
	r := asked
	r.Missing = MissingDrop
	f, err := fitted(t, "proportional-odds", text, r, nil)
	if err != nil || f.Rows.Dropped != 2 {
		t.Errorf("dropped: %v %v", f, err)
	}
	for line := 30; line < 60; line++ {
		cut(line, 2, "")
	}
	text = strings.Join(lines, "\n")
	r.Missing = MissingMedian
	r.Test = 0
	if f, err = fitted(t, "proportional-odds", text, r, nil); err != nil {
		t.Fatal(err)
	}
	if f.Rows.Train != 120 || f.Coding.Sources[0].Fill == nil {
		t.Errorf("imputed: %+v, %+v", f.Rows, f.Coding.Sources[0])
	}
	cut(5, 1, "2")
	cut(20, 4, "")
	if _, err := fitted(t, "proportional-odds", strings.Join(lines, "\n"), r, nil); !errors.Is(err, ErrTable) || !strings.Contains(fmt.Sprint(err), "line 21") {
		t.Errorf("response: %v", err)
	}
}

func TestBootstrap(t *testing.T) {
	r := asked
	r.Bootstrap, r.Test = 40, 0
	f, err := fitted(t, "proportional-odds", survey(300), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Bootstrap
	if b.Draws != 40 || b.Failed != 0 || len(b.Coefficients) != 6 {
		t.Fatalf("%+v", b)
	}
	for _, c := range b.Coefficients {
		if !(*c.Low < *c.High) || c.Value < *c.Low-1 || c.Value > *c.High+1 {
			t.Errorf("%s: %v in %v to %v", c.Name, c.Value, *c.Low, *c.High)
		}
	}
	if dose := b.Coefficients[0]; *dose.High >= 0 {
		t.Errorf("dose's interval %v to %v holds 0", *dose.Low, *dose.High)
	}
	if names := len(f.Figures()); names != 2 {
		t.Errorf("%d figures", names)
	}
}

func TestFitRefuses(t *testing.T) {
	text := survey(60)
	for name, c := range map[string]struct {
		text  string
		r     Recipe
		err   error
		words string
	}{
		"no response":    {text, Recipe{Formula: "dose"}, ErrFormula, "--response"},
		"unknown column": {text, Recipe{Response: "pian"}, ErrTable, `did you mean "pain"`},
		"unknown class":  {text, Recipe{Response: "pain", Order: []string{"none", "severe"}}, ErrTable, "some"},
		"constant":       {strings.ReplaceAll(strings.ReplaceAll(text, "north", "south"), "west", "south"), asked, ErrTable, "place"},
		"words in log":   {text, Recipe{Formula: "pain ~ log(place)"}, ErrTable, "no number"},
		"log of zero":    {strings.Replace(text, "0,", "0,0,", 1), Recipe{Formula: "pain ~ log(dose)"}, ErrTable, ""},
		"infinite":       {strings.Replace(text, "\n7,", "\n7,Inf,north,3,some\n7,", 1), asked, ErrTable, "line 9"},
		"many classes":   {survey(130), Recipe{Response: "id"}, ErrTable, "130 values"},
		"no rows":        {"a,b\n", Recipe{Response: "b"}, ErrTable, "no rows"},
		"two names":      {"a,a\n1,2\n", Recipe{Response: "a"}, ErrTable, "two columns"},
		"ragged":         {"a,b\n1,2\n3\n", Recipe{Response: "b"}, ErrTable, "line 3"},
		"bad share":      {text, Recipe{Response: "pain", Test: 1}, ErrFormula, "--test"},
	} {
		c.r.Scale = true
		if _, err := fitted(t, "proportional-odds", c.text, c.r, nil); !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stored model meets tables that it was not made for.
func TestPredictRefuses(t *testing.T) {
	f, err := fitted(t, "logistic", survey(150), asked, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, words string }{
		"new level":      {"dose,place,score\n1,nort,2\n", `did you mean "north"`},
		"missing column": {"dose,score\n1,2\n", "place"},
		"a word":         {"dose,place,score\nmuch,north,2\n", `line 2, column "dose": "much" is no number`},
		"missing value":  {"dose,place,score\n,north,2\n", "missing"},
	} {
		sheet, err := ReadSheet(written(t, c.text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Predict(sheet); !errors.Is(err, ErrTable) || !strings.Contains(fmt.Sprint(err), c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", `{"format":"tare-fit-1","method":"logistic","coding":{"design":[{"scale":1,"factors":[{"source":3}]}]}}`} {
		path := written(t, text)
		if _, err := Load(path); !errors.Is(err, ErrModel) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Oxides' zeros are refused by line and name, and replaced when asked.
func TestPartialCorrelationOfATable(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	text := "kind,a,b,c,d\n"
	for i := range 40 {
		v := []float64{rng.ExpFloat64(), rng.ExpFloat64(), rng.ExpFloat64(), rng.ExpFloat64()}
		if i == 6 {
			v[2] = 0
		}
		text += fmt.Sprintf("x,%g,%g,%g,%g\n", v[0], v[1], v[2], v[3])
	}
	if _, err := fitted(t, "partial-correlation", text, Recipe{Test: 0.2}, nil); !errors.Is(err, ErrTable) || !strings.Contains(fmt.Sprint(err), "kind") {
		t.Errorf("words: %v", err)
	}
	r := Recipe{Formula: ". - kind", Test: 0.2, Bootstrap: 20}
	if _, err := fitted(t, "partial-correlation", text, r, nil); !errors.Is(err, ErrData) || !strings.Contains(fmt.Sprint(err), `line 8, column "c"`) {
		t.Errorf("zero: %v", err)
	}
	f, err := fitted(t, "partial-correlation", text, r, map[string]string{"zeros": "replace"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Rows.Train != 40 || len(f.Bootstrap.Coefficients) != 6 {
		t.Errorf("%+v, %d coefficients", f.Rows, len(f.Bootstrap.Coefficients))
	}
}

// Ratings of rank one come back, from the file as well.
func TestMatrixCompletionOfATable(t *testing.T) {
	rng := rand.New(rand.NewPCG(28, 3))
	text := "user,item,rating,when\n"
	for u := range 40 {
		for i := range 15 {
			if rng.Float64() < 0.7 {
				text += fmt.Sprintf("u%d,i%d,%g,9\n", u, i, 3+(1+0.1*float64(u))*(float64(i)-7)/7)
			}
		}
	}
	text += "once,i1,5,9\n"
	if _, err := fitted(t, "matrix-completion", text, Recipe{Response: "rating"}, nil); !errors.Is(err, ErrData) || !strings.Contains(fmt.Sprint(err), "user + item") {
		t.Errorf("three columns: %v", err)
	}
	r := Recipe{Formula: "rating ~ user + item", Test: 0.2}
	f, err := fitted(t, "matrix-completion", text, r, map[string]string{"rank": "2", "ridge": "0.001", "tol": "1e-6"})
	if err != nil {
		t.Fatal(err)
	}
	if *f.Test.RMSE > 0.2 || *f.Train.RMSE > 0.05 {
		t.Errorf("error %g of the ratings fitted, %g of those kept out", *f.Train.RMSE, *f.Test.RMSE)
	}
	path := filepath.Join(t.TempDir(), "model.json")
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := ReadSheet(written(t, "item,user\ni3,u2\ni0,u39\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.Predict(sheet)
	if err != nil {
		t.Fatal(err)
	}
	b, err := again.Predict(sheet)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a.Values) != fmt.Sprint(b.Values) || math.Abs(a.Values[0][0]-(3-1.2*4/7)) > 0.1 {
		t.Errorf("predicts %v, from the file %v", a.Values, b.Values)
	}
	if _, err := fitted(t, "matrix-completion", text, r, map[string]string{"rank": "0"}); err == nil || !strings.Contains(fmt.Sprint(err), "rank is 0") {
		t.Errorf("rank 0: %v", err)
	}
}

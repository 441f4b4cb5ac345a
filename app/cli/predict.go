package cli

import (
	"bytes"
	"encoding/csv"
	"os"
	"strconv"

	"tare/engine/checkpoint"
	"tare/lab/fitting"
)

// predict applies a model of tare fit to a table.
type predict struct {
	Model     string `arg:"" help:"What tare fit --out wrote."`
	Data      string `arg:"" help:"A table with the columns that were fitted."`
	Out       string `placeholder:"FILE" help:"CSV file to write; without it the rows are printed."`
	Overwrite bool   `help:"Replace an existing --out."`
}

// Help shows examples.
func (*predict) Help() string {
	return `Columns are coded, imputed and standardised as they were in the fit; columns that it did not use are not looked at. Each row of the result has the line that it is of. Where the table has the response, the predictions are scored.

Examples:
  tare predict model.json new.csv
  tare predict model.json new.csv --out predictions.csv`
}

// Run implements the verb.
func (v *predict) Run(a *app) error {
	if v.Out != "" {
		if sameFile(v.Out, v.Data) || sameFile(v.Out, v.Model) {
			return usagef("--out %s is what is read; choose another name", v.Out)
		}
		if _, err := os.Stat(v.Out); err == nil && !v.Overwrite {
			return usagef("--out %s exists; choose another name or --overwrite", v.Out)
		}
	}
	f, err := fitting.Load(v.Model)
	if err != nil {
		return err
	}
	t, err := fitting.ReadSheet(v.Data)
	if err != nil {
		return err
	}
	p, err := f.Predict(t)
	if err != nil {
		return err
	}
	for _, n := range p.Notes {
		a.remark("predict: %s", n)
	}
	if p.Dropped > 0 {
		a.remark("predict: %d rows lack a value and have no prediction", p.Dropped)
	}
	if v.Out != "" {
		if err := checkpoint.WriteBytes(v.Out, predictionCSV(p)); err != nil {
			return err
		}
	}
	switch {
	case a.JSON:
		return a.printJSON(p)
	case v.Out == "":
		_, err := a.out.Write(predictionCSV(p))
		if err != nil || p.Scores == nil {
			return err
		}
		a.remark("predict: the table has the response; write the rows with --out to see the scores")
	case p.Scores != nil:
		printScores(a, [][2]any{{"rows predicted", p.Scores}})
	}
	return nil
}

// predictionCSV writes a prediction, one row a line: the class and the probabilities, or
// the numbers.
func predictionCSV(p *fitting.Predicted) []byte {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	head := []string{"line"}
	if p.Classes != nil {
		head = append(head, "predicted")
		for _, c := range p.Classes {
			head = append(head, "P("+c+")")
		}
	}
	_ = w.Write(append(head, p.Columns...)) // a buffer takes all
	for i, line := range p.Lines {
		row := []string{strconv.Itoa(line)}
		numbers := p.Probabilities
		if p.Classes != nil {
			row = append(row, p.Likeliest(i))
		} else {
			numbers = p.Values
		}
		for _, v := range numbers[i] {
			row = append(row, strconv.FormatFloat(v, 'g', 8, 64))
		}
		_ = w.Write(row)
	}
	w.Flush()
	return out.Bytes()
}

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Tables that others wrote, in the folder that parity/tables.py fills, are fitted, stored
// and predicted with nothing but a choice of columns.
func TestFitTables(t *testing.T) {
	folder := os.Getenv("TARE_TABLES")
	if folder == "" {
		t.Skip("TARE_TABLES names no folder of parity/tables.py: real tables are not fitted")
	}
	for _, c := range []struct {
		table  string
		args   []string
		rows   int
		scored bool
	}{
		{"soup.csv", []string{"proportional-odds", "--formula", "SURENESS ~ . - RESP - PRODID", "--order", "6,5,4,3,2,1", "--categories", "DAY"}, 1847, true},
		{"anes96.csv", []string{"presto", "--formula", "PID ~ logpopul + selfLR + age + educ + income", "-o", "lambdas=8", "-o", "folds=3"}, 944, true},
		{"fgl.csv", []string{"partial-correlation", "--formula", ". - RI - type", "-o", "zeros=replace"}, 214, false},
		{"Soils.csv", []string{"partial-correlation", "--formula", "P + Ca + Mg + K + Na"}, 48, false},
		{"geyser.csv", []string{"context-tree", "--formula", "eruption"}, 299, false},
		{"geyser.csv", []string{"arphmm", "--formula", "waiting + duration", "-o", "states=2", "-o", "order=1"}, 299, false},
		{"Soils.csv", []string{"lasso", "--formula", "pH ~ . - Group - Block - Gp"}, 48, true},
		{"InstEval.csv", []string{"matrix-completion", "--formula", "y ~ s + d"}, 73421, true},
	} {
		t.Run(c.table, func(t *testing.T) {
			path, model := filepath.Join(folder, c.table), filepath.Join(t.TempDir(), "model.json")
			do := func(into any, args ...string) {
				t.Helper()
				var out, errOut bytes.Buffer
				if code := run(context.Background(), append(args, "--json", "--quiet"), nil, &out, &errOut); code != exitDone {
					t.Fatalf("exit code %d: %s", code, errOut.String())
				}
				if err := json.Unmarshal(out.Bytes(), into); err != nil {
					t.Fatal(err)
				}
			}
			var fitted struct {
				Rows struct{ Read, Train, Test int }
			}
			do(&fitted, append([]string{"fit", c.args[0], path, "--out", model}, c.args[1:]...)...)
			if fitted.Rows.Read != c.rows || fitted.Rows.Train+fitted.Rows.Test != c.rows {
				t.Errorf("rows %+v, want %d", fitted.Rows, c.rows)
			}
			var said struct {
				Lines  []int
				Scores *struct{ Rows int }
			}
			do(&said, "predict", model, path)
			if len(said.Lines) != c.rows || (said.Scores != nil) != c.scored {
				t.Errorf("%d rows predicted, scores %v", len(said.Lines), said.Scores)
			}
		})
	}
}

package merge

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

// The tables of docs/merge.md are the list of methods.
func TestDocumentedMethods(t *testing.T) {
	page, err := os.ReadFile("../../docs/merge.md")
	if err != nil {
		t.Fatal(err)
	}
	var methods, parameters strings.Builder
	said := map[string]bool{}
	for _, m := range Methods() {
		models := fmt.Sprintf("%d or more", m.Least)
		if m.Least == m.Most {
			models = fmt.Sprint(m.Least)
		}
		base := map[Use]string{BaseIsModel: "one of them", BaseOptional: "optional", BaseRequired: "yes"}[m.Base]
		var params []string
		for _, p := range m.Params {
			text := fmt.Sprintf("`%s` %v", p.Name, p.Standard)
			if math.IsNaN(p.Standard) {
				text = fmt.Sprintf("`%s`", p.Name)
			}
			params = append(params, text)
			if said[p.Name+p.About] {
				continue
			}
			said[p.Name+p.About] = true
			scope := map[bool]string{true: "model", false: "merge"}[p.ByModel]
			values := "any"
			if !math.IsInf(p.Min, -1) {
				values = fmt.Sprintf("%g to %g", p.Min, p.Max)
				if math.IsInf(p.Max, 1) {
					values = fmt.Sprintf("from %g", p.Min)
				}
			}
			fmt.Fprintf(&parameters, "| `%s` | %s | %s | %s |\n", p.Name, scope, values, p.About)
		}
		fmt.Fprintf(&methods, "| `%s` | %s | %s | %s |\n", m.Name, models, base, strings.Join(params, ", "))
	}
	for _, table := range []string{methods.String(), parameters.String()} {
		if !strings.Contains(string(page), table) {
			t.Errorf("docs/merge.md does not have this table:\n%s", table)
		}
	}
}

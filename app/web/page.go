// Package web draws pages: one HTML file each that holds its style and its charts
// and asks for nothing from elsewhere. A page is sections of blocks; what stands in
// them is decided by whoever measures.
package web

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

// Page is an HTML document.
type Page struct {
	Title    string
	Lead     string // a sentence or two below the title
	Sections []Section
	Footer   string
	Broad    bool // for tables of many columns
}

// Section is a part of a page under its own heading. Badge, where given, stands
// beside the heading; Tone is its colour: good, bad or open.
type Section struct {
	Title       string
	Badge, Tone string
	Blocks      []Block
}

// Block is a part of a section: Text, Facts, Table, LineChart, DotPlot, Plots.
type Block interface{ markup() template.HTML }

// Text is a paragraph.
type Text string

// Facts are short statements under names, in the order they are given.
type Facts []Fact

// Fact is a name and what is so.
type Fact struct{ Name, Value string }

// Table is rows under column names. Where Kinds is given the last column is a bar of
// the rows' Stack, and Kinds names its colours.
type Table struct {
	Columns []Column
	Rows    []Row
	Kinds   []string
	Note    string // below the table
}

// Column is a column's name and whether it holds numbers, which align to the right.
type Column struct {
	Name   string
	Number bool
}

// Row is the cells of a table's row. Strong sets it off from the others. Span, where
// given, is a text across the columns that Cells leave.
type Row struct {
	Cells  []string
	Stack  []int64
	Strong bool
	Span   string
}

// Write writes the page.
func (p Page) Write(w io.Writer) error {
	if err := pageTemplate.Execute(w, struct {
		Page
		Style template.CSS
	}{p, template.CSS(style)}); err != nil {
		return fmt.Errorf("web: page %q: %w", p.Title, err)
	}
	return nil
}

//go:embed style.css
var style string

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"markup": func(b Block) template.HTML { return b.markup() },
}).Parse(pageSource))

// render fills one of the templates of page.html. They are part of the program and
// take any text, so an error is a programmer's.
func render(name string, data any) template.HTML {
	var b buffer
	if err := pageTemplate.ExecuteTemplate(&b, name, data); err != nil {
		panic(fmt.Sprintf("web: template %s: %v", name, err))
	}
	return template.HTML(b)
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (t Text) markup() template.HTML  { return render("text", string(t)) }
func (f Facts) markup() template.HTML { return render("facts", f) }

func (t Table) markup() template.HTML {
	type row struct {
		Row
		Bar  template.HTML
		Rest int // columns that Span takes
	}
	data := struct {
		Table
		Drawn []row
	}{Table: t}
	var full int64
	for _, r := range t.Rows {
		full = max(full, total(r.Stack))
	}
	for _, r := range t.Rows {
		drawn := row{Row: r, Rest: len(t.Columns) - len(r.Cells)}
		if len(t.Kinds) > 0 {
			drawn.Rest++
		}
		if len(t.Kinds) > 0 && r.Span == "" {
			parts := make([]Part, len(r.Stack))
			for i, v := range r.Stack {
				parts[i] = Part{t.Kinds[i], v}
			}
			drawn.Bar = stack(parts, full)
		}
		data.Drawn = append(data.Drawn, drawn)
	}
	return render("table", data)
}

func total(v []int64) (sum int64) {
	for _, x := range v {
		sum += x
	}
	return sum
}

// Number reports whether column i holds numbers.
func (t Table) Number(i int) bool { return i < len(t.Columns) && t.Columns[i].Number }

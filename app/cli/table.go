package cli

import (
	"io"

	prettytable "github.com/jedib0t/go-pretty/v6/table"
	prettytext "github.com/jedib0t/go-pretty/v6/text"

	"tare/app/web"
)

// table prints rows under a header; columns whose header begins with a space are
// numbers and align to the right.
func table(w io.Writer, header []string, rows [][]string) {
	t := prettytable.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(prettytable.StyleLight)
	t.Style().Options = prettytable.OptionsNoBordersAndSeparators
	t.Style().Format.Header = prettytext.FormatDefault
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
	t.SuppressTrailingSpaces()
	var head prettytable.Row
	var columns []prettytable.ColumnConfig
	for i, h := range header {
		align := prettytext.AlignLeft
		if h != "" && h[0] == ' ' {
			h, align = h[1:], prettytext.AlignRight
		}
		head = append(head, h)
		columns = append(columns, prettytable.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align})
	}
	t.AppendHeader(head)
	t.SetColumnConfigs(columns)
	for _, r := range rows {
		row := make(prettytable.Row, len(r))
		for i, v := range r {
			row[i] = v
		}
		t.AppendRow(row)
	}
	t.Render()
}

// bytesText writes a byte count for people.
func bytesText(n int64) string { return web.Bytes(n) }

// countText writes a count of parameters for people.
func countText(n int64) string { return web.Count(n) }

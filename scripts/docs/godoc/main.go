// Makes one page of the documentation of Go packages: `go run . PAGE FOLDER…`. Markdown for the headings, which the site's
// search and table of contents read, and HTML as go/doc prints it for everything else.
package main

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/printer"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"strings"
)

type page struct {
	strings.Builder
	files *token.FileSet
	// Of the package at hand: what its anchors begin with, so that two packages have different ones.
	of      *doc.Package
	anchors string
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: godoc PAGE FOLDER…")
	}
	out := page{files: token.NewFileSet()}
	out.WriteString("# Go: package metaadamw\n\nThis page is made from the comments in `bindings/go`.\n\n")
	for i, folder := range os.Args[2:] {
		out.read(folder)
		if i > 0 {
			out.anchors = out.of.Name + "."
			out.heading(2, "Package "+filepath.Base(folder), "package-"+filepath.Base(folder))
			fmt.Fprintf(&out, "%s\n\n", code(`import "`+out.of.ImportPath+`"`))
		}
		out.write()
	}
	if err := os.WriteFile(os.Args[1], []byte(out.String()), 0o666); err != nil {
		log.Fatal(err)
	}
}

func (p *page) read(folder string) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		log.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		file, err := parser.ParseFile(p.files, path, nil, parser.ParseComments)
		if err != nil {
			log.Fatal(err)
		}
		files = append(files, file)
	}
	if p.of, err = doc.NewFromFiles(p.files, files, modulePath(folder)); err != nil {
		log.Fatal(err)
	}
}

func modulePath(folder string) string {
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, found := strings.CutPrefix(line, "module "); found {
			return strings.TrimSpace(path)
		}
	}
	log.Fatal(folder, ": go.mod names no module")
	return ""
}

func (p *page) write() {
	p.comment(p.of.Doc)
	p.examples(p.of.Examples)
	p.values("Constants", p.of.Consts)
	p.values("Variables", p.of.Vars)
	if len(p.of.Funcs) > 0 {
		p.heading(2, "Functions", p.anchors+"functions")
		p.functions(p.of.Funcs)
	}
	for _, named := range p.of.Types {
		p.heading(2, "type "+named.Name, p.anchors+named.Name)
		p.declaration(named.Decl)
		p.comment(named.Doc)
		p.examples(named.Examples)
		for _, values := range [][]*doc.Value{named.Consts, named.Vars} {
			for _, value := range values {
				p.value(value)
			}
		}
		p.functions(named.Funcs)
		p.functions(named.Methods)
	}
}

func (p *page) functions(functions []*doc.Func) {
	for _, function := range functions {
		anchor, title := p.anchors+function.Name, "func "+function.Name
		if function.Recv != "" {
			anchor = p.anchors + strings.TrimPrefix(function.Recv, "*") + "." + function.Name
			title = fmt.Sprintf("func (%s) %s", function.Recv, function.Name)
		}
		p.heading(3, title, anchor)
		p.declaration(function.Decl)
		p.comment(function.Doc)
		p.examples(function.Examples)
	}
}

func (p *page) values(title string, values []*doc.Value) {
	if len(values) > 0 {
		p.heading(2, title, p.anchors+strings.ToLower(title))
	}
	for _, value := range values {
		p.value(value)
	}
}

func (p *page) value(value *doc.Value) {
	for _, name := range value.Names {
		fmt.Fprintf(p, "<span id=\"%s\"></span>\n", p.anchors+name)
	}
	p.WriteString("\n")
	p.declaration(value.Decl)
	p.comment(value.Doc)
}

func (p *page) examples(examples []*doc.Example) {
	for _, example := range examples {
		title := "Example"
		if example.Suffix != "" {
			title += " (" + strings.ReplaceAll(example.Suffix, "_", " ") + ")"
		}
		fmt.Fprintf(p, "<p><strong>%s</strong></p>\n\n", title)
		p.comment(example.Doc)
		text := p.printed(&printer.CommentedNode{Node: example.Code, Comments: example.Comments})
		if body, is := strings.CutPrefix(text, "{\n"); is {
			text = strings.ReplaceAll("\n"+strings.TrimSuffix(body, "\n}"), "\n\t", "\n")[1:]
		}
		if example.Output != "" {
			text, _, _ = strings.Cut(text, "// Output:")
		}
		p.WriteString(code(strings.TrimSpace(text)) + "\n\n")
		if example.Output != "" {
			fmt.Fprintf(p, "<p>It prints</p>\n\n```text\n%s\n```\n\n", strings.TrimSpace(example.Output))
		}
	}
}

func (p *page) heading(level int, title, anchor string) {
	fmt.Fprintf(p, "%s %s { #%s }\n\n", strings.Repeat("#", level), title, anchor)
}

func (p *page) declaration(declaration ast.Decl) {
	if function, is := declaration.(*ast.FuncDecl); is {
		function.Body = nil
	}
	p.WriteString(code(p.printed(declaration)) + "\n\n")
}

func (p *page) printed(node any) string {
	var text strings.Builder
	config := printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 4}
	if err := config.Fprint(&text, p.files, node); err != nil {
		log.Fatal(err)
	}
	return text.String()
}

func code(text string) string {
	return "```go\n" + strings.ReplaceAll(text, "\t", "    ") + "\n```"
}

// comment prints a doc comment; what it shows as code is Go, and links go to this page.
func (p *page) comment(text string) {
	if text == "" {
		return
	}
	printer := p.of.Printer()
	printer.DocLinkURL = func(link *comment.DocLink) string {
		if link.ImportPath != "" {
			return link.DefaultURL("https://pkg.go.dev")
		}
		name := link.Name
		if link.Recv != "" {
			name = link.Recv + "." + name
		}
		return "#" + p.anchors + name
	}
	for _, block := range p.of.Parser().Parse(text).Content {
		switch block := block.(type) {
		case *comment.Heading:
			title := string(printer.Text(&comment.Doc{Content: []comment.Block{&comment.Paragraph{Text: block.Text}}}))
			title = strings.TrimSpace(title)
			p.heading(2, title, p.anchors+strings.ReplaceAll(strings.ToLower(title), " ", "-"))
		case *comment.Code:
			p.WriteString(code(strings.TrimRight(block.Text, "\n")) + "\n\n")
		default:
			rendered := strings.TrimSpace(string(printer.HTML(&comment.Doc{Content: []comment.Block{block}})))
			if strings.HasPrefix(rendered, "<p>") { // go/doc leaves them open, and Markdown would look for the end
				rendered += "</p>"
			}
			p.WriteString(rendered + "\n\n")
		}
	}
}

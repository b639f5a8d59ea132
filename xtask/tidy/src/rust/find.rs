//! Reads a package's files: its modules, the names that each defines or imports, and every path that its code
//! mentions.

use std::collections::VecDeque;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree};

use super::{Binding, Mention, Package, Scope, SourceFile};
use crate::tree::{Tree, folder_of, join};
use crate::workspace;

/// Reads the package whose `Cargo.toml` lies in `folder`.
///
/// # Errors
///
/// A manifest or a Rust file that doesn't parse, or a module without a file.
pub fn read_package(tree: &Tree, folder: &str) -> Result<Package> {
    let name = workspace::member(tree, folder)?.name;
    let mut package = Package::default();
    let library = join(folder, "src/lib.rs");
    if tree.has_file(&library) {
        let root = read_target(&mut package, tree, &library)?;
        package.library = Some((root, name.replace('-', "_")));
    }
    let main = join(folder, "src/main.rs");
    let binaries = join(folder, "src/bin");
    let is_binary = |path: &str| {
        path == main
            || path.strip_prefix(binaries.as_str()).is_some_and(|below| {
                below.ends_with("/main.rs") || (below.ends_with(".rs") && below.matches('/').count() == 1)
            })
    };
    let roots: Vec<String> = tree.paths().filter(|path| is_binary(path)).map(str::to_owned).collect();
    for root in roots {
        read_target(&mut package, tree, &root)?;
    }
    Ok(package)
}

/// A `mod x;` whose file is still to be read.
struct Pending {
    path: String,
    module: Vec<String>,
    scope: usize,
    /// Where the files of its own modules lie.
    children: String,
}

fn read_target(package: &mut Package, tree: &Tree, root_file: &str) -> Result<usize> {
    let root = package.scopes.len();
    package.scopes.push(Scope::new(None, root, package.files.len()));
    let mut pending = VecDeque::from([Pending {
        path: root_file.to_owned(),
        module: Vec::new(),
        scope: root,
        children: folder_of(root_file).to_owned(),
    }]);
    while let Some(next) = pending.pop_front() {
        let text = tree.text(&next.path).with_context(|| format!("there is no `{}`", next.path))?;
        let parsed = syn::parse_file(text).map_err(|error| {
            anyhow!("failed to parse `{}:{}`: {error}", next.path, error.span().start().line)
        })?;
        let file = package.files.len();
        package.scopes[next.scope].file = file;
        package.files.push(SourceFile {
            path: next.path.clone(),
            module: next.module.clone(),
            root,
            tests: Vec::new(),
        });
        let mut finder = Finder {
            tree,
            package,
            pending: &mut pending,
            scope: next.scope,
            file: next.path,
            module: next.module,
            children: next.children,
            n_inline: 0,
            failed: None,
        };
        if !is_for_tests(&parsed.attrs) {
            finder.visit_file(&parsed);
        }
        if let Some(error) = finder.failed {
            return Err(error);
        }
    }
    Ok(root)
}

impl Scope {
    fn new(parent: Option<usize>, root: usize, file: usize) -> Self {
        Scope { parent, root, file, names: Default::default(), globs: Vec::new() }
    }
}

struct Finder<'a> {
    tree: &'a Tree,
    package: &'a mut Package,
    pending: &'a mut VecDeque<Pending>,
    scope: usize,
    file: String,
    module: Vec<String>,
    children: String,
    n_inline: usize,
    failed: Option<anyhow::Error>,
}

impl Finder<'_> {
    fn bind(&mut self, name: impl ToString, binding: Binding) {
        self.package.scopes[self.scope].names.entry(plain(name)).or_default().push(binding);
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        self.package.mentions.push(Mention { scope: self.scope, path, line });
    }

    fn import(&mut self, before: &[String], tree: &UseTree) {
        let line = tree.span().start().line;
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            if name != "self" || before.is_empty() {
                path.push(plain(name));
            }
            path
        };
        match tree {
            UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                if let Some(last) = path.last() {
                    self.bind(last, Binding::Use(path.clone()));
                }
                self.mention(path, line);
            }
            UseTree::Rename(rename) => {
                let path = with(&rename.ident);
                self.bind(&rename.rename, Binding::Use(path.clone()));
                self.mention(path, line);
            }
            UseTree::Glob(_) => {
                self.package.scopes[self.scope].globs.push(before.to_vec());
                self.mention(before.to_vec(), line);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(before, tree);
                }
            }
            #[allow(unreachable_patterns, reason = "syn may learn of further forms")]
            _ => {}
        }
    }

    /// Paths among the tokens of a macro call or of an attribute.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut idx = 0;
        while idx < tokens.len() {
            match &tokens[idx] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let is_member = idx > 0 && is_punct(&tokens[idx - 1], '.');
                    let is_of_a_type = idx > 0 && is_punct(&tokens[idx - 1], ':') && is_joint(&tokens, idx);
                    let mut path = vec![plain(first)];
                    while let [a, b, TokenTree::Ident(next), ..] = &tokens[idx + 1..]
                        && is_punct(a, ':')
                        && is_punct(b, ':')
                    {
                        path.push(plain(next));
                        idx += 3;
                    }
                    if !is_member && !is_of_a_type && (path.len() > 1 || is_upper(&path[0])) {
                        self.path(path, first.span().start().line);
                    }
                }
                TokenTree::Literal(literal) => {
                    // `#[serde(with = "crate::hex")]`
                    if let syn::Lit::Str(text) = syn::Lit::new(literal.clone())
                        && let Some(path) = path_in(&text.value())
                    {
                        self.path(path, literal.span().start().line);
                    }
                }
                TokenTree::Punct(_) => {}
            }
            idx += 1;
        }
    }

    /// A path in code. A single name leads further only if an import or a glob brought it in.
    fn path(&mut self, path: Vec<String>, line: usize) {
        if let [name] = path.as_slice()
            && matches!(name.as_str(), "Self" | "self" | "crate" | "super")
        {
            return;
        }
        self.mention(path, line);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            let file = self.package.scopes[self.scope].file;
            let span = item.span();
            self.package.files[file].tests.push(span.start().line..=span.end().line);
            return;
        }
        match item {
            Item::Const(item) => self.bind(&item.ident, Binding::Item),
            Item::Enum(item) => self.bind(&item.ident, Binding::Item),
            Item::Fn(item) => self.bind(&item.sig.ident, Binding::Item),
            Item::Static(item) => self.bind(&item.ident, Binding::Item),
            Item::Struct(item) => self.bind(&item.ident, Binding::Item),
            Item::Trait(item) => self.bind(&item.ident, Binding::Item),
            Item::TraitAlias(item) => self.bind(&item.ident, Binding::Item),
            Item::Type(item) => self.bind(&item.ident, Binding::Item),
            Item::Union(item) => self.bind(&item.ident, Binding::Item),
            Item::Macro(item) => {
                if let Some(name) = &item.ident {
                    self.bind(name, Binding::Item);
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        let name = plain(&item.ident);
        let (root, file) = {
            let scope = &self.package.scopes[self.scope];
            (scope.root, scope.file)
        };
        let inner = self.package.scopes.len();
        self.package.scopes.push(Scope::new(Some(self.scope), root, file));
        self.bind(&name, Binding::Module(inner));
        let mut module = self.module.clone();
        module.push(name.clone());
        if let Some((_, items)) = &item.content {
            let outer = (self.scope, self.module.clone(), self.children.clone());
            self.scope = inner;
            self.module = module;
            self.children = join(&self.children, &name);
            self.n_inline += 1;
            for item in items {
                self.visit_item(item);
            }
            self.n_inline -= 1;
            (self.scope, self.module, self.children) = outer;
            return;
        }
        let (path, children) = if let Some(path) = path_attribute(&item.attrs) {
            let from = if self.n_inline == 0 { folder_of(&self.file) } else { &self.children };
            let path = join(from, &path);
            let children = folder_of(&path).to_owned();
            (path, children)
        } else {
            let below = join(&self.children, &name);
            let flat = format!("{below}.rs");
            let path = if self.tree.has_file(&flat) { flat } else { format!("{below}/mod.rs") };
            (path, below)
        };
        if !self.tree.has_file(&path) {
            let line = item.ident.span().start().line;
            self.failed.get_or_insert(anyhow!("`{}:{line}`: module `{name}` has no file", self.file));
            return;
        }
        self.pending.push_back(Pending { path, module, scope: inner, children });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
            if names.len() > 1 || is_upper(&names[0]) {
                self.path(names, path.span().start().line);
            }
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(name) = function.path.get_ident()
            && !is_upper(&name.to_string())
        {
            self.path(vec![plain(name)], name.span().start().line);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.get_ident() {
            self.path(vec![plain(name)], name.span().start().line);
        }
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        match &attribute.meta {
            Meta::Path(path) => self.visit_path(path),
            Meta::List(list) => self.tokens(list.tokens.clone()),
            Meta::NameValue(_) => {}
        }
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[Attribute] = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !is_for_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_for_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// True for `#[test]`, and for `#[cfg(…)]` that holds in tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition)))
    })
}

fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let parts = list.parse_args_with(syn::punctuated::Punctuated::<Meta, Token![,]>::parse_terminated);
    let Ok(parts) = parts else { return false };
    if list.path.is_ident("all") {
        parts.iter().any(needs_test)
    } else if list.path.is_ident("any") {
        !parts.is_empty() && parts.iter().all(needs_test)
    } else {
        false
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}

/// A name without the `r#` of a raw one.
fn plain(name: impl ToString) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

fn is_upper(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_uppercase)
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// True if the two tokens before `idx` are `::`.
fn is_joint(tokens: &[TokenTree], idx: usize) -> bool {
    idx >= 2 && is_punct(&tokens[idx - 2], ':')
}

fn path_in(text: &str) -> Option<Vec<String>> {
    let is_path = text.contains("::")
        && text.split("::").all(|name| {
            !name.is_empty() && name.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
        });
    is_path.then(|| text.split("::").map(str::to_owned).collect())
}

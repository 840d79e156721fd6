"""Who and what a story can be about: names, animals, homes, places, things."""

GIRLS = "Lily Mia Anna Sue Emma Lucy Zoe Nora Ruby Ella Rosie Sara Molly Amy Jane Kate Maya Ivy Nina Clara Hana Grace Alice Eva".split()
BOYS = "Tom Ben Sam Tim Jack Leo Finn Noah Jim Bob Dan Luke Adam Peter Billy Henry Toby Hugo Alex Eli Ravi Theo Will Omar".split()

PET_GIRLS = "Pippa Dot Honey Bella Tilly Luna Fern Mimi Coco Daisy Willow Pearl Hazel Lulu Kiki Rosa".split()
PET_BOYS = "Pip Rusty Max Fluffy Spot Bruno Oscar Gus Milo Biscuit Patch Teddy Nibbles Hop Otto Barnaby".split()

# kind, where it lives
ANIMALS = [
    ("fox", "in a den under an old oak tree"),
    ("rabbit", "in a [cozy|snug|warm] hole under the hill"),
    ("bear", "in a [warm|big|quiet] cave near the river"),
    ("mouse", "in a tiny house behind the [barn|old mill]"),
    ("frog", "by a [round|quiet|small] pond"),
    ("duck", "by a [blue|quiet|wide] lake"),
    ("hedgehog", "under a pile of [dry|golden] leaves"),
    ("squirrel", "in a hole high up in an oak tree"),
    ("owl", "in an old, hollow tree"),
    ("cat", "in a [small|little] house with a red door"),
    ("puppy", "on a farm with a green gate"),
    ("kitten", "in a basket by the fire"),
    ("turtle", "by the side of a slow river"),
    ("penguin", "in a land of ice and snow"),
    ("elephant", "where the grass was tall and the sun was hot"),
    ("monkey", "in the tallest tree of the jungle"),
    ("pig", "on a [small|busy] farm"),
    ("lamb", "in a green field"),
    ("pony", "in a stable at the edge of the village"),
    ("beaver", "in a house of sticks on the river"),
    ("badger", "in a deep, dark hole in the woods"),
    ("otter", "on the bank of a cold, clear river"),
    ("mole", "under the garden"),
    ("deer", "at the edge of the forest"),
    ("lion", "on a big, sunny rock"),
    ("panda", "in a forest of bamboo"),
    ("goose", "by the old [mill|bridge]"),
    ("hen", "in a [little|warm] house on a farm"),
    ("raccoon", "in an old log in the woods"),
    ("bird", "in a nest in an apple tree"),
]

HUMAN_HOMES = [
    "in a small house by the sea", "in a [little|quiet] village", "in a [yellow|white|blue|red] house on a hill",
    "near a big forest", "in a busy town", "on a farm", "next to a park", "in a house with a big garden",
    "in a tall house in the city", "by a [wide|slow] river", "at the end of a long road", "near the mountains",
]

ADULTS = [("mom", "Mom", "she"), ("mom", "Mom", "she"), ("dad", "Dad", "he"), ("dad", "Dad", "he"),
          ("grandma", "Grandma", "she"), ("grandpa", "Grandpa", "he")]

# place, a spot in it, something one sees or hears there
PLACES = [
    ("the forest", "under a tall tree", "The birds were singing in the trees"),
    ("the forest", "behind a mossy rock", "The leaves were whispering in the wind"),
    ("the park", "under a bench", "Children were laughing and playing"),
    ("the park", "next to the slide", "The flowers were red and yellow"),
    ("the garden", "behind the roses", "The bees were humming over the flowers"),
    ("the garden", "under the apple tree", "The butterflies were dancing in the sun"),
    ("the beach", "in the sand", "The waves were going in and out"),
    ("the beach", "between two rocks", "The white birds were flying over the sea"),
    ("the meadow", "in the tall grass", "The grass was soft and green"),
    ("the river", "by a smooth stone", "The water was clear and cool"),
    ("the pond", "near the reeds", "The little fish were swimming round and round"),
    ("the hill", "beside an old stone wall", "The wind was blowing softly"),
    ("the farm", "behind the barn", "The cows were eating the fresh grass"),
    ("the field", "near the fence", "The corn was tall and golden"),
    ("the village", "beside the well", "People were smiling and saying hello"),
]

COLORS = "red blue green yellow orange purple pink white golden silver".split()

TOYS = ["ball", "kite", "drum", "toy boat", "toy train", "toy car", "teddy bear", "doll", "top", "puzzle", "bucket", "balloon", "wagon", "flute"]
WEAR = ["hat", "scarf", "cap", "coat", "jacket", "sweater"]
FINDS = ["key", "feather", "shell", "coin", "bell", "ring", "stone", "box", "map", "bottle", "watch", "book", "lamp"]
FOODS = ["cookies", "apples", "berries", "pancakes", "nuts", "carrots", "plums", "muffins", "sandwiches", "pears", "cherries", "strawberries"]

LOVES = [
    "play outside", "sing", "dance", "draw pictures", "look at the stars", "run and jump", "read books", "climb trees",
    "tell jokes", "help others", "pick flowers", "splash in the water", "ask questions", "play hide and seek",
    "eat [berries|cookies|apples|honey|warm bread]", "listen to stories", "watch the clouds", "make new friends", "explore",
    "count things", "play with {his} friends", "collect [shells|stones|leaves|feathers]", "build things", "roll down the hill",
]

TRAITS = [
    "kind", "brave", "curious", "clever", "cheerful", "shy", "quiet", "gentle", "funny", "friendly", "busy", "happy", "careful",
]

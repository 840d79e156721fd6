"""Plots about small days: a surprise party, a new pet, a chain of swaps, a letter, fishing, a hat in the wind, a boat trip, a song."""

from .grammar import table

PARTY = {
    "rows": table("secret wrong_idea", [
        ("hung colored lamps in the trees", "\"They have all forgotten me,\" thought {h}"), ("baked a cake with three layers", "\"Nobody wants to play with me today,\" thought {h}"),
        ("blew up a hundred balloons", "\"Maybe they are angry with me,\" thought {h}"), ("painted a long sign", "\"It is just a day like any other,\" thought {h}"), ("practiced a funny song", "\"Nobody remembers,\" thought {h}"),
    ]),
    "openings": ["Today was {h}'s birthday.", "{h} woke up and jumped out of bed. It was {his} birthday!"],
    "beats": [
        ["{One_day} it was {h}'s birthday. {H} could not wait to see {his} friends.", "{h} had counted the days, and now it was {his} birthday at last."],
        ["{H} went to {f}'s house. \"I am sorry, I have no time today,\" said {f}, and closed the door.", "{H} met {f}. \"Hello!\" said {h}. But {f} only said, \"I have to go,\" and ran away.", "But nobody said happy birthday. Even {f} only waved from far away."],
        ["{wrong_idea}, and {he} was very sad.", "{h} walked to {place} all alone. {wrong_idea}."],
        ["But all that time, {f} and the others were busy. They {secret}.", "{h} did not know that {his} friends had a secret. They {secret}."],
        ["In the evening, {h} went home. The house was dark. {H} opened the door slowly.", "When the sun went down, {P} called {h}. \"Come and look behind the house,\" said {P}."],
        ["\"Surprise!\" everyone shouted. All {his} friends were there!", "Suddenly, all the lights went on. \"Happy birthday, {hv}!\" they all called."],
        ["{f} gave {h} {a_toy}. \"We did not forget you,\" {fhe} said.", "\"We had to keep it a secret,\" said {f}, and laughed.", "They sang and danced and ate cake until it was late."],
    ],
    "at_home": True,
    "morals": ["It was the best birthday of {his} life.", "{h} knew that {he} had the best friends in the world."],
}

PET = {
    "rows": table("pet trait_of need name_it", [
        ("a small gray kitten", "It was thin and wet", "a bowl of warm milk", "Misty"), ("a brown puppy with one white ear", "It shook with cold", "a soft old blanket", "Patches"), ("a little green parrot", "It had hurt its wing", "a branch to sit on", "Lemon"),
        ("a tiny turtle", "It had lost its pond", "a bowl of water and some leaves", "Pebble"), ("a baby rabbit", "It was all alone", "a box with hay", "Clover"), ("a black and white pony", "It was tired and hungry", "fresh hay and water", "Domino"),
    ]),
    "hero": "human",
    "openings": ["{h} wanted to have a pet.", "{h} wanted a pet more than anything in the world."],
    "beats": [
        ["{One_day} {h} asked, \"Can we have a pet?\" \"A pet is a lot of work,\" said {P}.", "More than anything, {h} wanted a pet. \"When you are bigger,\" {P} always said."],
        ["Then, {one_time}, {h} found {pet} {spot}. {trait_of}.", "A few days later, {h} heard a sound at the door. It was {pet}. {trait_of}."],
        ["\"You poor thing,\" said {h}. {H} gave it {need}.", "{h} ran to get {need}."],
        ["{H} asked everyone in the village, but nobody knew it.", "\"Does it belong to someone?\" asked {P}. They put up a sign, but nobody came."],
        ["\"May I keep it? Please!\" said {h}. \"If you take good care of it,\" said {P}.", "{P} looked at {h}, and then at {the_pet}. \"All right,\" said {P}. \"It can stay.\""],
        ["{h} called it {name_it}.", "\"Your name is {name_it},\" said {h}. It seemed to like that."],
        ["Every day, {h} fed {name_it}, brushed it and played with it.", "Every morning, before breakfast, {h} took care of {name_it}."],
        ["At night, {name_it} slept at the end of {h}'s bed.", "Soon {name_it} was big and strong, and it followed {h} everywhere."],
    ],
    "at_home": True,
    "morals": ["{h} learned that love means taking care of someone.", "\"You are the best pet in the world,\" said {h}."],
}

SWAP = {
    "rows": table("start second third last", [
        ("an apple", "a piece of string", "a fishing hook", "a big fish for dinner"), ("a button", "a needle", "a warm sweater", "a place by the fire for the night"), ("a shell", "a paint brush", "a bucket of blue paint", "a boat that someone had thrown away"),
        ("a flower", "a jar of honey", "a loaf of bread", "a seat on a wagon to the city"), ("an egg", "a bag of flour", "a hot pie", "a puppy with soft ears"), ("a marble", "a feather", "an old hat", "a ticket to the circus"),
    ]),
    "openings": ["All that {h} had was {start}."],
    "beats": [
        ["{One_day} {h} had nothing but {start}. {H} put it in {his} pocket and went out.", "{One_day} {P} gave {h} {start}. \"See what you can get for it,\" said {P}."],
        ["First {h} met [an old woman|a boy|a farmer] who needed {start}. {H} gave it away and got {second}.", "On the road, {he} met [a girl|an old man|a goat] who gave {him} {second} for {the_start}."],
        ["Then {he} met [a fisherman|a tailor|a painter|a baker|a clown] who was looking for {second}. \"I will give you {third} for it,\" he said.", "A little later, {he} gave {the_second} away and got {third}."],
        ["In the end, {he} came to {place}, and there {he} got {last} for {the_third}.", "At last, someone looked at {the_third} and said, \"That is just what I need!\" And so {h} got {last}."],
        ["{h} ran home. \"Look what I got for {start}!\" {he} said.", "\"And it all began with {start}!\" said {h} and laughed.", "{P} could not believe it. \"You are a clever one,\" said {P}."],
    ],
    "morals": ["Small things can become big things.", "{h} learned that everything is worth something to someone."],
}

LETTER = {
    "rows": table("gone news", [
        ("moved to a town far away", "There is a big tree here, but nobody to climb it with"), ("gone to live by the sea", "I found a shell for you, and it sounds like the waves"), ("gone on a long trip", "I saw snow on the mountains, and I thought of you"),
        ("moved over the hills", "My new house has a blue door and a bed for you"),
    ]),
    "openings": ["{h} missed {his} friend {f}.", "{h} wanted to write a letter."],
    "beats": [
        ["{his} best friend {f} had {gone}. {h} missed {fhim} very much.", "{One_day} {h}'s best friend {f} said goodbye. {fHe} had {gone}, and {h} was sad."],
        ["\"Why don't you write to {f}?\" asked {P}.", "\"I know what I will do,\" said {h}. \"I will write a letter to {f}!\""],
        ["{h} got paper and a pen and wrote, \"Dear {f}, I miss you. Do you still like to {love}?\"", "{h} drew a picture of the two of them near {place}. Under it {he} wrote, \"I miss you.\""],
        ["{H} put it in an envelope and took it to the post office.", "They put a {color} stamp on it, and {h} dropped it into the box."],
        ["Then {h} waited. One day, two days, a whole week. \"Maybe {f} has forgotten me,\" {he} thought.", "Every morning, {h} ran to the door. But there was no letter."],
        ["Then, {one_time}, the postman came. \"There is something for you!\" he said. It was a letter from {f}!", "At last, there was a letter in the box. It was from {f}!"],
        ["\"Dear {hv},\" it said. \"{news}. Please come and visit me soon.\"", "{h} opened it with shaking hands. \"{news},\" it said."],
        ["And in the summer, {P} took {h} to see {f}. They ran to each other and hugged.", "{h} put the letter under {his} pillow and wrote a new one that very day."],
    ],
    "at_home": True,
    "morals": ["{h} learned that a friend is a friend, even far away.", "A letter can bring two hearts together."],
}

FISHING = {
    "rows": table("caught", [("an old boot",), ("a rusty bucket",), ("a long, green weed",), ("an old tin can",), ("a big wet branch",)]),
    "hero": "human",
    "openings": ["{h} wanted to catch a fish.", "{h} sat by the lake with {p} and held a fishing rod."],
    "beats": [
        ["{One_day} {h} went fishing with {p}. They got up when it was still dark.", "{One_day} {P} said, \"Today I will show you how to fish.\""],
        ["They sat in a little boat on the quiet lake. \"Now we wait,\" said {P}.", "They sat down by the water and waited. Nothing moved."],
        ["\"How long do we have to wait?\" asked {h}. \"Until a fish is hungry,\" said {P}.", "{h} could not sit still. \"Shh,\" said {P}. \"The fish can hear you.\""],
        ["Then the line moved. \"I have something!\" shouted {h}. {H} pulled and pulled. It was {caught}!", "There was a pull on the line. {h} jumped up. But it was only {caught}."],
        ["They both laughed. \"You cannot eat that for dinner,\" said {P}.", "{h} was sad, but {P} said, \"Try again. You must be patient.\""],
        ["They waited a long time. They talked about [the clouds|the old days|school|the birds]. Then the line moved again. This time, it was a silver fish!", "{h} tried again, and this time {he} was very quiet. And then there was a fish on the line!"],
        ["The fish looked at {h} with round eyes. \"Can we let it go?\" {he} asked. And they did. It swam away.", "It was a very small fish. \"Go home to your mother,\" said {h}, and put it back into the water."],
        ["\"What did you like best?\" asked {P}. \"Sitting here with you,\" said {h}.", "On the way home, they bought {food} for dinner."],
    ],
    "at_home": True,
    "morals": ["{h} learned that waiting can be fun, too.", "They did not bring home a fish, but they were happy."],
}

HAT = {
    "rows": table("stop_a stop_b user use_of", [
        ("over the fence", "into the top of a tree", "a family of birds", "slept in it, as if it was a nest"), ("along the street", "into the river", "a tiny mouse", "used it as a boat"), ("across the field", "onto the head of a scarecrow", "a scarecrow", "looked much warmer with it"),
        ("over the roofs", "behind the old barn", "five little kittens", "played in it and purred"), ("down the hill", "onto a rock in the sun", "a hedgehog", "had made a bed in it"),
    ]),
    "openings": ["\"My hat!\" cried {h}. The wind had taken it away.", "The wind was blowing, and {h} held on to {his} hat."],
    "beats": [
        ["{One_day} {h} went for a walk with a new {color} hat. Suddenly, the wind took it away!", "It was a windy day. {h} had a {color} hat, and whoosh, the wind blew it off {his} head!"],
        ["{h} ran after it. It flew {stop_a}. {h} jumped, but {he} could not reach it.", "\"Stop!\" called {h}. But the hat did not stop. It flew {stop_a}."],
        ["{f} saw it and ran along. \"I will help you!\" {fhe} called.", "\"What are you doing?\" asked {f}. \"I am running after my hat!\" said {h}."],
        ["Then the hat flew {stop_b}, and they could not see it anymore.", "They ran and ran. At last, the wind blew it {stop_b}."],
        ["They looked for it all afternoon. And then they found it. But it was not empty. It belonged to {user} now, who {use_of}.", "When they came closer, they saw {user} who {use_of}."],
        ["\"I want my hat back,\" said {h}. But then {he} smiled. \"No, you can keep it. You need it more than I do.\"", "{h} thought about it. \"I have another hat at home,\" {he} said. \"You can have this one.\""],
        ["\"That was nice of you,\" said {f}.", "{f} put {fhis} own cap on {h}'s head. \"Now you are warm, too,\" {fhe} said.", "They sat down and watched for a long time."],
    ],
    "morals": ["{h} learned that giving can be better than having.", "After that, {h} went there every day to say hello."],
}

PLOTS = {"party": PARTY, "pet": PET, "swap": SWAP, "letter": LETTER, "fishing": FISHING, "hat": HAT}
